"""Downloads one file of a Hub repository and goes on where an earlier program stopped; knows no model.

The Hub's library resumes within one process only: it throws away what it has when that ends. So the file grows here
under a name of its own, and its library's transfer is told how much is there.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url  # pyright: ignore[reportUnknownVariableType] - its progress bar is bare
from huggingface_hub.file_download import http_get  # pyright: ignore[reportUnknownVariableType] - as above
from huggingface_hub.utils import build_hf_headers  # pyright: ignore[reportUnknownVariableType] - as above

from corral.errors import CorralError

_PARTS: Final = ".parts"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a repository at one commit; `sha256` in hexadecimal where the Hub knows it, else empty."""

    repo: str
    commit: str
    name: str
    size: int
    sha256: str = ""


def bytes_there(folder: Path, file: File) -> int:
    """How much of the file is in the folder, finished or not."""
    for path in (folder / file.name, part_of(folder, file)):
        try:
            return min(path.stat().st_size, file.size)
        except OSError:
            continue
    return 0


def part_of(folder: Path, file: File) -> Path:
    """Where the unfinished file grows: another commit's is another file."""
    return folder / _PARTS / hashlib.sha256(f"{file.commit}/{file.name}".encode()).hexdigest()[:24]


def download(folder: Path, file: File) -> None:
    """Make the file stand in the folder, whole. Errors are the Hub library's own, and OSError.

    Files that were put together by several programs are held against the Hub's checksum, where it has one.
    """
    target = folder / file.name
    if target.exists() and target.stat().st_size == file.size:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.size > constants.MAX_HTTP_DOWNLOAD_SIZE:  # the Hub gives such files in pieces, to its library only
        hf_hub_download(file.repo, file.name, revision=file.commit, local_dir=folder)
        return
    part = part_of(folder, file)
    part.parent.mkdir(exist_ok=True)
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    with part.open("ab") as stream:
        resumed = stream.tell()
        if resumed < file.size or not resumed:
            location = get_hf_file_metadata(url).location  # often another host, which must not see the user's token
            ours = urlsplit(location).netloc == urlsplit(url).netloc
            headers = build_hf_headers() if ours else {}
            http_get(location, stream, resume_size=resumed, headers=headers, expected_size=file.size)
    if resumed and file.sha256 and _sha256(part) != file.sha256:
        part.unlink()
        raise CorralError(
            f"{file.name} of {file.repo} arrived damaged.", "Try again: it will be fetched from its start."
        )
    part.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
