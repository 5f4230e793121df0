"""`corral logs`: prints the copies of the ranks' logs that the head keeps."""

import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

from corral.errors import BadInput
from corral.store.state import Store

LOOK_SECONDS: Final = 0.2


def run_logs(name: str, *, rank: str, lines: int, follow: bool) -> None:
    """Print the last lines of each rank's log, and go on if wanted until Ctrl-C."""
    with Store(time.time) as store:
        known = store.deployments()
        chosen = name or (known[-1].name if known else "")
        if not known:
            raise BadInput("There is no log: nothing was ever launched.", "Launch something with `corral up`.")
        if all(deployment.name != chosen for deployment in known):
            there = ", ".join(deployment.name for deployment in known)
            raise BadInput(f"There is no deployment named {chosen!r}.", f"Those that are known: {there}.")
        folder = store.logs(chosen)
    offsets = {path: _tail(path, lines, _prefix(folder, rank)) for path in _files(folder, rank, missing_ok=follow)}
    while follow:
        for path in _files(folder, rank, missing_ok=True):
            offsets[path] = _news(path, offsets.get(path, 0), _prefix(folder, rank))
        sys.stdout.flush()
        time.sleep(LOOK_SECONDS)


def _files(folder: Path, rank: str, *, missing_ok: bool) -> list[Path]:
    found = sorted(folder.glob("*.log"))
    wanted = [path for path in found if not rank or path.stem == rank]
    if not wanted and not missing_ok:
        there = ", ".join(path.stem for path in found) or "none"
        raise BadInput(f"There is no log of {rank or 'any rank'}.", f"Ranks with a log: {there}.")
    return wanted


def _prefix(folder: Path, rank: str) -> bool:
    """Whether lines begin with their rank's name: when there is more than one to tell apart."""
    return not rank and len(list(folder.glob("*.log"))) > 1


def _tail(path: Path, lines: int, prefix: bool) -> int:  # noqa: FBT001 - private
    with path.open("rb") as file:
        for line in deque(file, maxlen=lines):
            _print(path, line.decode(errors="replace"), prefix)
        return file.tell()


def _news(path: Path, offset: int, prefix: bool) -> int:  # noqa: FBT001 - private
    if path.stat().st_size < offset:
        offset = 0  # a new launch has begun it anew
    with path.open("rb") as file:
        file.seek(offset)
        whole, newline, _ = file.read().rpartition(b"\n")  # a line that is still being written waits for its end
    for line in (whole + newline).splitlines(keepends=True):
        _print(path, line.decode(errors="replace"), prefix)
    return offset + len(whole) + len(newline)


def _print(path: Path, line: str, prefix: bool) -> None:  # noqa: FBT001 - private
    sys.stdout.write(f"{path.stem:<10} | {line}" if prefix else line)
    if not line.endswith("\n"):
        sys.stdout.write("\n")
