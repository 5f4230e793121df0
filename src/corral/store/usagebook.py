"""Counts what requests used in memory and has a thread write it; knows no request and blocks nobody."""

import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from corral.errors import CorralError
from corral.store.usage import Counts, Place, UsageStore, day_of

FLUSH_SECONDS: Final = 1.0  # what is lost at most when the process is killed


class UsageBook:
    """Counts from one event loop and writes every second; what could not be written is kept and tried again.

    `last_used` gives since its last call when keys were used, by id. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        folder: Path | None = None,
        *,
        last_used: Callable[[], Mapping[str, float]] = dict,
        interval: float = FLUSH_SECONDS,
    ) -> None:
        self._clock = clock
        self._folder = folder
        self._last_used = last_used
        self._interval = interval
        self._lock = threading.Lock()
        self._counted: dict[Place, Counts] = {}
        self._used: dict[str, float] = {}
        self._day = (-1, "")  # the last one, since the epoch and as text
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self._thread.start()

    def add(self, key: str, model: str, counts: Counts, wall_time: float) -> None:
        """Count for a key's id and a model what ended at `wall_time` (seconds since the epoch)."""
        day = int(wall_time // 86_400)
        if day != self._day[0]:
            self._day = (day, day_of(wall_time))
        self._count(Place(self._day[1], key, model), counts)

    def close(self) -> None:
        """Write what is left and end; waits for the disk, so not for an event loop."""
        self._ending.set()
        self._thread.join()

    def _count(self, place: Place, counts: Counts) -> None:
        with self._lock:
            before = self._counted.get(place)
            self._counted[place] = counts if before is None else before.plus(counts)

    def _run(self) -> None:
        store: UsageStore | None = None
        trouble, swept = "", ""
        while True:
            ending = self._ending.wait(self._interval)
            try:
                store = store or UsageStore(self._folder)
                self._flush(store)
                trouble = ""
                if (today := day_of(self._clock())) != swept:
                    store.forget(self._clock())
                    swept = today
            except (CorralError, sqlite3.Error) as error:
                if str(error) != trouble:
                    sys.stderr.write(f"Usage is not written, and kept for later: {error}\n")
                trouble = str(error)
            if ending:
                break
        if store is not None:
            store.close()

    def _flush(self, store: UsageStore) -> None:
        with self._lock:
            counted, self._counted = self._counted, {}
        self._used |= self._last_used()
        if not counted and not self._used:
            return
        try:
            store.add(counted, self._used)
        except BaseException:
            for place, counts in counted.items():
                self._count(place, counts)
            raise
        self._used = {}
