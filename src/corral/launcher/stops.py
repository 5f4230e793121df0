"""Which models are not tried again just now, why, and until when: failed loads and refusals; knows no machine.

Times are seconds of one monotonic clock.
"""

import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from corral.gateway.table import Failed

REFUSED_SECONDS: Final = 60.0  # that a refusal stands while nothing changes
BACKOFF_SECONDS: Final = 5.0  # after a failed load; twice as long after each further one
LONGEST_BACKOFF: Final = 300.0


@dataclass(slots=True)
class _Stop:
    cause: str
    until: float  # infinite: it may be tried, and only the number of its failures is remembered
    failures: int = 0  # in a row
    around: frozenset[str] | None = None  # a refusal stands as long as these are what it was refused for


class Stops:
    """By the models' names."""

    def __init__(self) -> None:
        self._stops: dict[str, _Stop] = {}

    def failed(self, name: str, cause: str, now: float, *, age: float = 0.0) -> Failed:
        """A load failed, `age` seconds ago: it is not tried again at once, and later each time."""
        before = self._stops.get(name)
        failures = (before.failures if before is not None else 0) + 1
        pause = min(LONGEST_BACKOFF, BACKOFF_SECONDS * 2.0 ** (failures - 1))
        left = max(0.0, pause - age)
        self._stops[name] = _Stop(cause, now + left, failures)
        return Failed(cause, float(math.ceil(left)))

    def refused(self, name: str, cause: str, now: float, around: frozenset[str]) -> Failed:
        """It was refused because of what is `around`: that stands for a while, or until those change."""
        self._stops[name] = _Stop(cause, now + REFUSED_SECONDS, around=around)
        return Failed(cause, REFUSED_SECONDS)

    def forget(self, names: AbstractSet[str]) -> None:
        """These are ready, or are not offered any more."""
        for name in names & self._stops.keys():
            del self._stops[name]

    def names(self) -> frozenset[str]:
        """Those that something is remembered of."""
        return frozenset(self._stops)

    def holds(self, name: str) -> bool:
        """Whether a model is not to be tried now."""
        stop = self._stops.get(name)
        return stop is not None and stop.until < math.inf

    def look(self, name: str, now: float, around: frozenset[str]) -> Failed | bool:
        """How a stop stands: what those who ask are told, True if it has just ended, False if there is none."""
        stop = self._stops.get(name)
        if stop is None or stop.until == math.inf:
            return False
        if now < stop.until and stop.around in {None, around}:
            return Failed(stop.cause, float(math.ceil(stop.until - now)))
        if stop.failures:
            stop.until = math.inf
        else:
            del self._stops[name]
        return True
