"""Copies of the ranks' logs on this machine, so that they outlive node and rank; knows nothing of what they say."""

import re
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

TAIL_LINES: Final = 400
# A log that grows beyond this is begun anew; the older part is kept once.
FILE_BYTES: Final = 64 * 1024 * 1024


class RankLogs:
    """One file a rank below `folder`, begun anew, and the last lines of each in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails: dict[str, deque[str]] = {}
        self._parts: dict[str, str] = {}
        self._offsets: dict[str, dict[str, int]] = {}
        for old in self._folder.glob("*.log*"):
            old.unlink(missing_ok=True)

    def write(self, rank: str, node: str, text: str, offset: int) -> None:
        """Take in text of a rank's log, which ends at `offset` bytes of the log on its node."""
        self._offsets.setdefault(node, {})[rank] = offset
        with suppress(OSError):  # a full disk costs the copy, not the watch
            self._copy(self._folder / f"{rank}.log", text)
        tail = self._tails.setdefault(rank, deque(maxlen=TAIL_LINES))
        # A progress bar ends its lines by carriage returns.
        *whole, rest = (self._parts.get(rank, "") + text).replace("\r", "\n").split("\n")
        tail.extend(line for line in whole if line)
        self._parts[rank] = rest[-4096:]

    def _copy(self, path: Path, text: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            size = file.tell()
        if size > FILE_BYTES:
            path.replace(path.with_suffix(".log.1"))

    def tail(self, rank: str) -> tuple[str, ...]:
        """The last lines of a rank's log, an unfinished one included."""
        lines = list(self._tails.get(rank, ()))
        if part := self._parts.get(rank):
            lines.append(part)
        return tuple(lines)

    def shows(self, rank: str, pattern: str) -> bool:
        """Whether one of the last lines matches the regular expression."""
        return any(re.search(pattern, line) for line in self.tail(rank))

    def offsets(self, node: str) -> dict[str, int]:
        """How far each log of the node was read, in bytes, by rank."""
        return dict(self._offsets.get(node, {}))
