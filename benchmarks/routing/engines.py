"""Simulated engines: one prompt is read at a time, all answers are written together, a bounded cache of blocks."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

BLOCK: Final = 256  # tokens
READ_BESIDE: Final = 0.8  # of the speed of reading is left while answers are written
WRITE_BESIDE: Final = 0.5  # of the speed of writing while a prompt is read


@dataclass(eq=False)
class Job:
    """One request."""

    due: float
    prompt: int  # tokens
    answer: int
    blocks: tuple[bytes, ...]
    then: Callable[[float], Iterator["Job"]] | None = None  # what its end brings about
    engine: int = -1
    granted: float = 0.0
    first: float = 0.0
    cached: int = 0
    left: float = 0.0  # tokens to read, then tokens to write


@dataclass
class Speed:
    """How fast an engine is, alone and per stream more; and what it remembers."""

    read: float = 4000.0  # tokens/s
    write: float = 40.0  # tokens/s of one stream
    crowd: float = 0.06  # of a token's time that each further stream adds
    cache: int = 1200  # blocks
    slots: int = 16


@dataclass
class Engine:
    """A replica. Progress is made up to `at`."""

    speed: Speed
    failing: tuple[float, float] = (0.0, 0.0)
    at: float = 0.0
    waiting: deque[Job] = field(default_factory=deque)
    reading: Job | None = None
    writing: list[Job] = field(default_factory=list)
    cache: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def fails(self, now: float) -> bool:
        """Whether it refuses everything at the moment."""
        return self.failing[0] <= now < self.failing[1]

    def rates(self) -> tuple[float, float]:
        """Tokens a second: read, and written by each stream."""
        speed, streams = self.speed, len(self.writing)
        write = speed.write / (1 + speed.crowd * max(0, streams - 1))
        return speed.read * (READ_BESIDE if streams else 1), write * (WRITE_BESIDE if self.reading else 1)

    def next(self) -> float:
        """When something of its own happens."""
        read, write = self.rates()
        times = [job.left / write for job in self.writing]
        if self.reading:
            times.append(self.reading.left / read)
        return self.at + min(times, default=float("inf"))

    def advance(self, now: float) -> list[Job]:
        """Go on until now; the jobs that ended."""
        read, write = self.rates()
        passed, self.at = now - self.at, now
        for job in self.writing:
            job.left -= passed * write
        done = [job for job in self.writing if job.left <= 1e-6]
        self.writing = [job for job in self.writing if job.left > 1e-6]
        if self.reading:
            self.reading.left -= passed * read
            if self.reading.left <= 1e-6:
                job, self.reading = self.reading, None
                job.first, job.left = now, job.answer - 1 + 1e-3
                self.writing.append(job)
                self._remember(job.blocks)
        self._start()
        return done

    def _start(self) -> None:
        if self.reading is None and self.waiting and len(self.writing) < self.speed.slots:
            job = self.reading = self.waiting.popleft()
            known = next((n for n in range(len(job.blocks), 0, -1) if job.blocks[n - 1] in self.cache), 0)
            job.cached = known * BLOCK
            job.left = max(1, job.prompt - job.cached)
            self._remember(job.blocks[:known])

    def _remember(self, blocks: tuple[bytes, ...]) -> None:
        for block in reversed(blocks):  # so that beginnings are the last to go
            self.cache[block] = None
            self.cache.move_to_end(block)
        while len(self.cache) > self.speed.cache:
            self.cache.popitem(last=False)

    def add(self, job: Job) -> None:
        """A request comes in; `advance` was called for this moment."""
        self.waiting.append(job)
        self._start()
