"""Memory for the bodies of requests that are under way, shared by all of a process; knows no request."""

from typing import Final

from corral.gateway import errors
from corral.units import MIB

_SMALL: Final = 1 * MIB  # for a body of this size there is always room: large ones must not shut out chats


class Room:
    """Counts bytes; it holds none."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    def take(self, more: int, whole: int) -> None:
        """A body grew by `more` bytes to `whole`; ApiError when that is too much beside what others hold."""
        self.taken += more
        if self.taken > self.size and _SMALL < whole < self.taken:
            raise errors.no_room()

    def give(self, whole: int) -> None:
        """A body of so many bytes is let go of."""
        self.taken -= whole
