"""Where fetched models lie in the cache, and which of them are whole; knows no network.

A model lies in CACHE/hub/OWNER--NAME/REVISION. A small record beside its files, written last, says which of them make
it whole: a model that has its record is used as it is, without asking the Hub again.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from corral.models.source import ModelSource
from corral.values import Value


class Record(Value):
    """A fetched model: its files below the folder with their sizes, the one to open, and the commit they are of."""

    open: str  # relative path of the GGUF file; "." for the folder itself
    files: Mapping[str, int]
    commit: str = ""


def folder_of(source: ModelSource, cache: Path) -> Path:
    """The folder of a Hub model."""
    return cache / "hub" / source.repo.replace("/", "--") / source.revision.replace("/", "--")


def find(source: ModelSource, cache: Path) -> Path | None:
    """The path of a model that was fetched before and is whole still; None otherwise."""
    folder = folder_of(source, cache)
    try:
        record = Record.model_validate_json(_record_path(source, folder).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in record.files.items())
    except (OSError, ValidationError):
        return None
    return folder / record.open if whole else None


def remember(source: ModelSource, cache: Path, record: Record) -> Path:
    """Note that a model is whole, and return its path; OSError when the disk does not take the note."""
    folder = folder_of(source, cache)
    path = _record_path(source, folder)
    work = path.with_suffix(".new")
    work.write_text(record.model_dump_json(), encoding="utf-8")
    work.replace(path)
    return folder / record.open


def _record_path(source: ModelSource, folder: Path) -> Path:
    return folder / f".corral-{hashlib.sha256(source.pick.encode()).hexdigest()[:12]}"
