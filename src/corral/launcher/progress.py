"""Tells how far a launch has come, often enough to watch and seldom enough to cost nothing; knows no stage by name."""

from collections.abc import Callable
from typing import Final

from corral.store.state import Store
from corral.store.values import Progress

MIN_SECONDS: Final = 0.2  # between two writes about the same thing


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
