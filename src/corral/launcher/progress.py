"""Tells how far a launch has come, often enough to watch and seldom enough to cost nothing; knows no deployment."""

from collections.abc import Callable, Mapping
from typing import Final

from corral.store.state import Store
from corral.store.values import Progress

MIN_SECONDS: Final = 0.2  # between two writes about the same thing
# Where in a launch each stage begins and ends, as a share of the whole, while nothing is known of how long it takes.
SPANS: Final[Mapping[str, tuple[float, float]]] = {
    "nodes": (0.0, 0.02),
    "model": (0.02, 0.15),
    "plan": (0.15, 0.16),
    "environment": (0.16, 0.3),
    "model files": (0.3, 0.45),
    "ranks": (0.45, 0.5),
    "load": (0.5, 0.95),
    "first token": (0.95, 1.0),
}
NEARLY: Final = 0.99  # what is not done is never shown as done


class Reporter:
    """Writes a deployment's progress to the store and to whoever else listens. `clock` is monotonic, in seconds."""

    def __init__(
        self, store: Store, deployment: str, clock: Callable[[], float], listen: Callable[[Progress], None]
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._clock = clock
        self._listen = listen
        self._last: dict[tuple[str, str], tuple[float, str]] = {}

    def __call__(self, stage: str, text: str, *, fraction: float | None = None, subject: str = "") -> None:
        """Say what a stage does for a subject (a node, a rank; empty: as a whole); fraction 1.0 ends it."""
        now = self._clock()
        at, before = self._last.get((stage, subject), (-MIN_SECONDS, ""))
        if now - at < MIN_SECONDS and fraction != 1.0 and before:
            return
        self._last[stage, subject] = (now, text)
        step = Progress(stage=stage, subject=subject, fraction=fraction, text=text)
        self._store.progress(self._deployment, step)
        self._listen(step)


class Course:
    """How far a launch is as a whole. Seconds are of a monotonic clock; `usual` is what it took before, if it did."""

    def __init__(self, started: float, usual: float | None) -> None:
        self.stage = "nodes"
        self._started = started
        self._usual = usual
        self._share = 0.0

    def step(self, stage: str, fraction: float | None) -> None:
        """Take note of a stage's progress."""
        if stage in SPANS:
            begin, end = SPANS[stage]
            self.stage = stage
            self._share = max(self._share, begin + (end - begin) * (fraction or 0.0))

    def share(self, now: float) -> float:
        """Share done, 0 to 1: by the time that it took before, else by the stages that are behind it."""
        share = (now - self._started) / self._usual if self._usual else self._share
        return min(share, NEARLY)

    def seconds(self, now: float) -> float | None:
        """Seconds that it still takes if it takes as long as before; None where that is not known or over."""
        left = self._usual - (now - self._started) if self._usual else 0.0
        return left if left > 0 else None
