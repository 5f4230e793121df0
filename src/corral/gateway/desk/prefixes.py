"""Which beginnings of prompts one replica has lately computed; knows no request and no engine.

Digests are cumulative: each stands for the whole prompt up to the end of its block. So the longest known one says all,
and a lookup goes from the end. A request refreshes what it found, what it adds, and the first, so that a prompt whose
first block is not known need not be looked at further; those between age, which harms nothing. Bounded by halves: when
the younger half is full, it becomes the older one, and the older one, in which nothing was found since, is dropped.
"""

from collections.abc import Sequence


class Prefixes:
    """Digests of prompts' beginnings, the least recently used of which are forgotten."""

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, entries: int) -> None:
        self._half = max(1, entries // 2)
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def known(self, prefix: Sequence[bytes]) -> int:
        """How many of the prompt's blocks, from its beginning, are known."""
        young, old = self._young, self._old
        count = len(prefix)
        if not count or not (prefix[0] in young or prefix[0] in old):
            return 0
        while count:
            digest = prefix[count - 1]
            if digest in young or digest in old:
                return count
            count -= 1
        return 0

    def add(self, prefix: Sequence[bytes], known: int) -> None:
        """Remember a prompt's blocks, of which the first `known` are known."""
        for digest in (*prefix[max(0, known - 1) :], *prefix[:1]):
            if len(self._young) >= self._half:
                self._old = self._young
                self._young = set()
            self._young.add(digest)

    def forget(self, prefix: Sequence[bytes], known: int) -> None:
        """Take back what `add` remembered: it was not computed after all."""
        for digest in prefix[known:]:
            self._young.discard(digest)
            self._old.discard(digest)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
