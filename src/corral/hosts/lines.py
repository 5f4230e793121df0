"""Bytes into lines, none longer than a bound; knows no stream."""

from collections.abc import Iterator
from typing import Final

from corral.units import MIB

LONGEST_LINE: Final = MIB


class LineSplitter:
    """Collects bytes and gives back lines without their newline; what is longer than `longest` comes in pieces."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._held = bytearray()  # begins a line whose newline has not come; shorter than `longest`

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes and yield the lines that they complete; run it to its end before feeding more."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._held += part
            yield from self._overlong()
            yield self._take(len(self._held))
        self._held += rest
        yield from self._overlong()

    def finish(self) -> Iterator[bytes]:
        """Yield the last line if no newline ended it."""
        if self._held:
            yield self._take(len(self._held))

    def _overlong(self) -> Iterator[bytes]:
        while len(self._held) > self._longest:
            yield self._take(self._longest)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:count]
        return taken
