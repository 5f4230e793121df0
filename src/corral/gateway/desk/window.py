"""How much of something was used within the last minute; knows no key and no clock.

Why a sliding window: a token bucket (GCRA) refills while it is used, so up to twice the limit passes within a minute;
two fixed minutes guess at their border; a log of every use is exact and grows with the limit. Here uses are added up in
spans of less than a second, and a span counts until its last use is a minute old: never more than the limit in any
60 seconds, let in again at most a second late, which is what Retry-After can say, and at most 62 spans of memory.
"""

from collections import deque
from math import inf
from typing import Final

import msgspec

WINDOW: Final = 60.0  # seconds
_SPAN: Final = 1.0  # seconds
_ROUNDING: Final = 1e-6  # seconds; `now + wait` is a rounded sum


class Span(msgspec.Struct, eq=False):
    """What was used within less than a second."""

    first: float
    last: float
    amount: int


class Window:
    """Uses of one kind within the last minute, and the most that there may be."""

    __slots__ = ("_spans", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._spans: deque[Span] = deque()

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` more fits, if nothing else is used meanwhile; 0: it fits; inf: it never will."""
        spans = self._spans
        while spans and spans[0].last + WINDOW <= now + _ROUNDING:
            self.used -= spans.popleft().amount
        excess = self.used + amount - self.limit
        if excess <= 0:
            return 0.0
        for span in spans:
            excess -= span.amount
            if excess <= 0:
                return span.last + WINDOW - now
        return inf

    def add(self, amount: int, now: float) -> Span:
        """Count a use; the limit is not looked at. Times never go backwards."""
        self.used += amount
        spans = self._spans
        if spans and now - spans[-1].first < _SPAN:
            span = spans[-1]
            span.last = now
            span.amount += amount
        else:
            span = Span(now, now, amount)
            spans.append(span)
        return span

    def give_back(self, span: Span, amount: int, now: float) -> None:
        """Take back a use that was counted in this span, unless it is so old that it counts no more."""
        if span.last + WINDOW > now + _ROUNDING:
            self.used -= amount
            span.amount -= amount

    def __len__(self) -> int:
        return len(self._spans)
