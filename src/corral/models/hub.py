"""Fetches a model from the Hugging Face Hub, in a process of its own; knows the Hub's library and no engine.

`python -m corral.models.hub CACHE` reads a ModelSource as JSON from the first line of standard input, writes one JSON
Step a line to standard output, and ends when its standard input is closed: when whoever asked is gone. The Hub's token,
if any, comes from where the Hub's library keeps it, never from a command line.
"""

import fcntl
import os
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import huggingface_hub
from huggingface_hub import constants

from corral.errors import CorralError
from corral.models.download import File, bytes_there, download
from corral.models.fetch import Step
from corral.models.hubfiles import select
from corral.models.hubstore import Record, find, folder_of, remember
from corral.models.hubwords import in_words
from corral.models.source import ModelSource
from corral.units import GIB, format_bytes

PROBE_SECONDS: Final = 2.0
_TICK_SECONDS: Final = 0.25
_AT_ONCE: Final = 4  # files
_SPARE: Final = GIB  # that a fetch leaves free on the disk


def main() -> int:
    """Fetch what standard input asks for; the exit status is 0 whenever the last line says how it ended."""
    source = ModelSource.model_validate_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    try:
        if source.kind == "default" and not answers():
            _say(Step(unreachable=True))
        else:
            _say(Step(path=str(fetch(source, Path(sys.argv[1])))))
    except CorralError as error:
        _say(Step(cause=error.cause, remedy=error.remedy, code=error.code))
    return 0


def answers() -> bool:
    """Whether the Hub answers within PROBE_SECONDS, name look-up included."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(f"{constants.ENDPOINT}/api/models?limit=1", method="HEAD")  # noqa: S310 - the user's own endpoint
        try:
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310 - as above
                answered.set()
        except urllib.error.HTTPError:
            answered.set()  # refused, but there
        except (OSError, ValueError):
            pass

    if constants.is_offline_mode():
        return False
    threading.Thread(target=ask, daemon=True).start()
    return answered.wait(PROBE_SECONDS)


def fetch(source: ModelSource, cache: Path) -> Path:
    """Fetch a model's files into the cache, going on where an earlier fetch stopped; CorralError says what failed."""
    try:
        folder = folder_of(source, cache)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one fetch of a model at a time; the second finds what the first brought
            return find(source, cache) or _fetch(source, cache, folder)
    except CorralError:
        raise
    except Exception as error:
        raise in_words(error, source) from error


def _fetch(source: ModelSource, cache: Path, folder: Path) -> Path:
    info = huggingface_hub.HfApi().model_info(source.repo, revision=source.revision, files_metadata=True)
    listed = {file.rfilename: file for file in info.siblings or ()}
    names = select(source.repo, {name: file.size or 0 for name, file in listed.items()}, source.pick)
    files = [
        File(
            repo=source.repo,
            commit=info.sha or source.revision,
            name=name,
            size=listed[name].size or 0,
            sha256=lfs.sha256 if (lfs := listed[name].lfs) else "",
        )
        for name in names
    ]
    _check_disk(source, folder, files)
    with _Progress(folder, files), ThreadPoolExecutor(_AT_ONCE) as pool:
        for done in [pool.submit(download, folder, file) for file in files]:
            done.result()
    opened = next((name for name in names if name.endswith(".gguf")), ".")
    record = Record(open=opened, files={file.name: file.size for file in files}, commit=info.sha or "")
    return remember(source, cache, record)


def _check_disk(source: ModelSource, folder: Path, files: Sequence[File]) -> None:
    missing = sum(file.size - bytes_there(folder, file) for file in files)
    free = shutil.disk_usage(folder).free
    if missing > 0 and missing + _SPARE > free:
        raise CorralError(
            f"{source.repo} needs {format_bytes(missing)} more in {folder}, and {format_bytes(free)} are free there"
            f" ({format_bytes(_SPARE)} are to stay free).",
            "Free some space, or choose a smaller quantization or model.",
        )


class _Progress:
    """Says now and then how much is there, until the block is left."""

    def __init__(self, folder: Path, files: Sequence[File]) -> None:
        self._folder, self._files = folder, files
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        total = sum(file.size for file in self._files)
        while not self._stop.wait(_TICK_SECONDS):
            _say(Step(done=sum(bytes_there(self._folder, file) for file in self._files), total=total))


def _end_with_the_asker() -> None:
    sys.stdin.read()
    os._exit(0)


def _say(step: Step) -> None:
    sys.stdout.write(step.model_dump_json(exclude_defaults=True) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
