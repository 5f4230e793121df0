"""One load under one router, event by event."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from loads import Load
from routers import Corral, Router

from corral.gateway.desk.values import Outcome
from engines import Engine, Job, Speed

FAIL_SECONDS: Final = 0.005  # a replica that fails does so at once
PROBE_SECONDS: Final = 0.2


@dataclass
class Case:
    """Engines and what they are asked."""

    name: str
    engines: list[Speed]
    load: Load
    failing: dict[int, tuple[float, float]] = field(default_factory=dict)


@dataclass
class Tally:
    """What came of one run."""

    ttft: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    prompts: int = 0
    cached: int = 0
    failed: int = 0


class Run:
    """One load under one router."""

    def __init__(self, case: Case, make: Callable[[list[int]], Router], seed: int, seconds: float) -> None:
        count = len(case.engines)
        engines = [Engine(speed, case.failing.get(n, (0.0, 0.0))) for n, speed in enumerate(case.engines)]
        self.engines = [engines[(n + seed) % count] for n in range(count)]  # which one is the first decides nothing
        self.router = make([engine.speed.slots for engine in self.engines])
        self.tally = Tally()
        self._order = itertools.count()
        self._looks = [float("inf")] * len(
            self.engines
        )  # when each engine is looked at next; other such events are old
        self._events: list[tuple[float, int, str, Job | int]] = []
        for job in case.load(random.Random(seed), seconds):  # noqa: S311 - a simulation's
            self._push(job.due, "arrive", job)
        if isinstance(self.router, Corral):
            self._push(0.0, "desk", 0)

    def _push(self, at: float, kind: str, what: Job | int) -> None:
        heapq.heappush(self._events, (at, next(self._order), kind, what))

    def go(self) -> Tally:
        """Until all is answered."""
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            if isinstance(what, int):
                if kind == "desk":
                    self._desk(now)
                elif now == self._looks[what]:
                    self._engine(what, now)
            elif kind == "arrive":
                self._start(self.router.arrive(what, now), now)
            else:
                self._end(what, Outcome(end="busy", status=503, seconds=FAIL_SECONDS), now)
            for job in self.router.failed():
                self._over(job, now)
        return self.tally

    def _desk(self, now: float) -> None:
        """Probe what the desk wants probed, and look in again."""
        if not isinstance(self.router, Corral):
            return
        desk = self.router.desk
        for replica in desk.probes(now):
            desk.probed(replica.id, ok=not self.engines[int(replica.id)].fails(now), now=now)
        self._start(self.router.due(now), now)
        if self._events:
            self._push(now + PROBE_SECONDS, "desk", 0)

    def _start(self, started: list[tuple[Job, int]], now: float) -> None:
        for job, number in started:
            job.engine = number
            engine = self.engines[number]
            if engine.fails(now):
                self._push(now + FAIL_SECONDS, "fail", job)
            else:
                self._engine(number, now)
                engine.add(job)
                self._look(number)

    def _engine(self, number: int, now: float) -> None:
        engine = self.engines[number]
        for job in engine.advance(now):
            first = job.first - job.granted
            self._end(job, Outcome(
                end="answered", status=200, seconds=now - job.granted, first_token=first, prompt_tokens=job.prompt,
                cached_tokens=job.cached, output_tokens=job.answer,
            ), now)  # fmt: skip
        self._look(number)

    def _look(self, number: int) -> None:
        at = self.engines[number].next()
        if at != self._looks[number] and at < float("inf"):
            self._push(at, "engine", number)
        self._looks[number] = at

    def _end(self, job: Job, outcome: Outcome, now: float) -> None:
        started = self.router.end(job, outcome, now)
        if outcome.end == "answered":
            self.tally.ttft.append(job.first - job.due)
            self.tally.whole.append(now - job.due)
            self.tally.prompts += job.prompt
            self.tally.cached += job.cached
        if outcome.end == "answered" or not any(other is job for other, _ in started):
            if outcome.end != "answered":
                self.tally.failed += 1
            self._follow(job, now)
        self._start(started, now)

    def _over(self, job: Job, now: float) -> None:
        self.tally.failed += 1
        self._follow(job, now)

    def _follow(self, job: Job, now: float) -> None:
        for then in job.then(now) if job.then else ():
            self._push(then.due, "arrive", then)
