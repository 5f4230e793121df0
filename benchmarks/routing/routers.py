"""Ways to choose an engine: in turns, by what is in flight, by what is known there, and the gateway's own desk."""

import itertools

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.serving import Ready, ServedModel
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Ask, Grant, Outcome, Replica
from corral.gateway.errors import ApiError
from engines import Job


class Router:
    """Says where each job goes. This one: in turns."""

    name = "round robin"

    def __init__(self, slots: list[int]) -> None:
        """`slots` of each engine."""
        self.flying = [0] * len(slots)
        self._turns = itertools.count()

    def arrive(self, job: Job, now: float) -> list[tuple[Job, int]]:
        """A job came: the jobs that now start, and where."""
        job.granted = now
        to = self.pick(job)
        self.flying[to] += 1
        return [(job, to)]

    def end(self, job: Job, outcome: Outcome, now: float) -> list[tuple[Job, int]]:
        """A job ended: as above."""
        del outcome, now
        self.flying[job.engine] -= 1
        return []

    def pick(self, job: Job) -> int:
        """The engine for a job."""
        del job
        return next(self._turns) % len(self.flying)

    def failed(self) -> list[Job]:
        """Jobs that the router itself gave up since it was last asked."""
        return []


class FewestInFlight(Router):
    """The one with the fewest requests."""

    name = "fewest in flight"

    def pick(self, job: Job) -> int:
        """Ties by turns."""
        turn = super().pick(job)
        count = len(self.flying)
        return min(range(count), key=lambda engine: (self.flying[engine], (engine - turn) % count))


class CacheAware(Router):
    """The one that knows most of the prompt, balanced only above a large difference."""

    name = "cache-aware, sticky"

    def __init__(self, slots: list[int]) -> None:
        super().__init__(slots)
        self._sent: list[set[bytes]] = [set() for _ in slots]

    def pick(self, job: Job) -> int:
        """As SGLang's router does, with its defaults."""
        engines = range(len(self.flying))
        most, least = max(self.flying), min(self.flying)
        if most - least > 64 and most > 1.5 * least:
            to = self.flying.index(least)
        else:
            match = [
                next((n for n in range(len(job.blocks), 0, -1) if job.blocks[n - 1] in sent), 0) for sent in self._sent
            ]
            to = max(engines, key=lambda engine: (match[engine], -self.flying[engine]))
            if match[to] <= 0.3 * len(job.blocks):
                to = min(engines, key=lambda engine: (len(self._sent[engine]), self.flying[engine]))
        self._sent[to].update(job.blocks)
        return to


class Corral(Router):
    """The gateway's own desk."""

    name = "Corral"
    repeats = False

    def __init__(self, slots: list[int]) -> None:
        super().__init__(slots)
        self.desk = Desk(DeskSettings(longest_wait=600.0))
        replicas = tuple(
            Replica(id=f"{n}", base_url=f"http://{n}", served_name="m", slots=count) for n, count in enumerate(slots)
        )
        self.desk.serve(ServedModel(name="m", state=Ready(replicas)), 0.0)
        self._jobs: dict[int, Job] = {}  # by ticket
        self._grants: dict[Job, Grant] = {}
        self.waits: list[tuple[float, float]] = []  # seconds: expected, and real
        self._failed: list[Job] = []

    def arrive(self, job: Job, now: float) -> list[tuple[Job, int]]:
        """Go on at once, or wait."""
        ask = Ask(request_id="", route="/v1/chat/completions", model="m", prompt_tokens=job.prompt, prefix=job.blocks)
        try:
            answer = self.desk.arrive(ask, now, now)
        except ApiError:
            self._failed.append(job)
            return []
        return self._took(job, answer, now)

    def end(self, job: Job, outcome: Outcome, now: float) -> list[tuple[Job, int]]:
        """Those who wait go on."""
        grant = self._grants.pop(job)
        if self.repeats and outcome.end == "busy":
            again = self.desk.again(grant.number, outcome, now)
            started = [] if again is None else self._took(job, again, now)
            return started + self.due(now)
        self.desk.settle(grant.number, outcome, now)
        return self.due(now)

    def due(self, now: float) -> list[tuple[Job, int]]:
        """What the desk decided for those who wait."""
        started: list[tuple[Job, int]] = []
        for ticket, answer in self.desk.due(now):
            job = self._jobs.pop(ticket.number)
            if ticket.expected is not None and now - ticket.arrived > 1:
                self.waits.append((ticket.expected, now - ticket.arrived))
            if isinstance(answer, Grant):
                started += self._took(job, answer, now)
            else:
                self._failed.append(job)
        return started

    def _took(self, job: Job, answer: Grant | Ticket, now: float) -> list[tuple[Job, int]]:
        if isinstance(answer, Ticket):
            self._jobs[answer.number] = job
            return []
        job.granted = now
        self._grants[job] = answer
        return [(job, int(answer.replica.id))]

    def failed(self) -> list[Job]:
        """Refused, or waited for too long."""
        failed, self._failed = self._failed, []
        return failed


class CorralRepeats(Corral):
    """As the gateway does it: what an engine did not take goes to another."""

    name = "Corral, repeating"
    repeats = True
