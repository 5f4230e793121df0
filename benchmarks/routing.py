"""Which router lets people wait least: a simulation of replicas with prefix caches, the same load under each router.

    python benchmarks/routing.py [--seconds N] [--seeds N] [--only WORD] [--json]

Simulated, not measured: engines read one prompt at a time and write all answers together, each slowing the other; they
keep blocks of prompts in a cache of bounded size, least recently used out first; beyond their slots they queue by
themselves. The routers are the gateway's own desk, which is told no speed and learns them all; round robin; fewest in
flight (ties by turns); and pure cache-aware routing by the rule of SGLang's router: the replica with the longest match
above a share of 0.3, else the one that was sent the fewest blocks; the fewest in flight only when the difference
exceeds 64 and a factor of 1.5. These are its documented defaults. Ties go to the fewest in flight, which is kinder than
it is. All see the same arrivals, from the same seeds.

TTFT counts from a request's arrival, its wait at the desk included, of requests that were answered. Nothing is
repeated, so that a failed request is seen as one, but for the last row of the failing case. There, a router that loses
many of its requests has less to do, and so a shorter TTFT: look at the share that failed first.
"""

import argparse
import heapq
import itertools
import json
import random
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Final, TypeAlias

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.serving import Ready, ServedModel
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Ask, Grant, Outcome, Replica
from corral.gateway.errors import ApiError

BLOCK: Final = 256  # tokens
SLOTS: Final = 16
FAIL_SECONDS: Final = 0.005  # a replica that fails does so at once
PROBE_SECONDS: Final = 0.2
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


Load: TypeAlias = Callable[[random.Random, float], Iterator[Job]]

# Engines --------------------------------------------------------------------------------------------------------------


@dataclass
class Speed:
    """How fast an engine is, alone and per stream more; and what it remembers."""

    read: float = 4000.0  # tokens/s
    write: float = 40.0  # tokens/s of one stream
    crowd: float = 0.06  # of a token's time that each further stream adds
    cache: int = 1200  # blocks


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
        if self.reading is None and self.waiting and len(self.writing) < SLOTS:
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


# Routers --------------------------------------------------------------------------------------------------------------


class Router:
    """Says where each job goes. This one: in turns."""

    name = "round robin"

    def __init__(self, engines: int) -> None:
        self.flying = [0] * engines
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

    def __init__(self, engines: int) -> None:
        super().__init__(engines)
        self._sent: list[set[bytes]] = [set() for _ in range(engines)]

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

    def __init__(self, engines: int) -> None:
        super().__init__(engines)
        self.desk = Desk(DeskSettings(longest_wait=600.0))
        replicas = tuple(
            Replica(id=f"{n}", base_url=f"http://{n}", served_name="m", slots=SLOTS) for n in range(engines)
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


# A run ----------------------------------------------------------------------------------------------------------------


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

    def __init__(self, case: Case, make: Callable[[int], Router], seed: int, seconds: float) -> None:
        count = len(case.engines)
        engines = [Engine(speed, case.failing.get(n, (0.0, 0.0))) for n, speed in enumerate(case.engines)]
        self.engines = [engines[(n + seed) % count] for n in range(count)]  # which one is the first decides nothing
        self.router = make(len(self.engines))
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


# Loads ----------------------------------------------------------------------------------------------------------------


def text(name: str, tokens: int) -> list[str]:
    """The blocks of a text that is nowhere else."""
    return [f"{name}.{at}" for at in range(tokens // BLOCK)]


def chained(blocks: list[str]) -> tuple[bytes, ...]:
    """A digest of the prompt up to the end of each block."""
    state = blake2b(digest_size=8)
    digests: list[bytes] = []
    for block in blocks:
        state.update(block.encode())
        digests.append(state.digest())
    return tuple(digests)


def poisson(rate: float, mean_prompt: float, shared: int = 2 * BLOCK) -> Load:
    """Independent questions behind one system prompt."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now = 0.0
        for number in itertools.count():
            now += chance.expovariate(rate)
            if now > seconds:
                return
            own = int(min(chance.lognormvariate(0, 0.8) * mean_prompt, 30_000))
            answer = 8 + int(min(chance.expovariate(1 / 200), 1500))
            yield Job(now, shared + own, answer, chained(text("system", shared) + text(f"{number}", own)))

    return load


def agents(rate: float, turns: int = 15, system: int = 16 * BLOCK) -> Load:
    """Sessions that begin as they like; each turn is the whole conversation so far and a tool's result."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now = 0.0
        for number in itertools.count():
            now += chance.expovariate(rate)
            if now > seconds:
                return
            yield session(f"s{number}", now, random.Random(chance.random()), seconds)  # noqa: S311 - a simulation's

    def session(name: str, start: float, chance: random.Random, seconds: float) -> Job:
        blocks = text("system", system)

        def turn(number: int, at: float) -> Job:
            new = BLOCK * (1 + int(min(chance.expovariate(1 / 5), 60)))
            blocks.extend(text(f"{name}.{number}", new))

            def then(now: float) -> Iterator[Job]:
                if number < turns and now < seconds:
                    yield turn(number + 1, now + chance.expovariate(1 / 2.0))

            prompt = len(blocks) * BLOCK + 64
            return Job(at, prompt, 8 + int(chance.expovariate(1 / 100)), chained(blocks), then)

        return turn(1, start)

    return load


def document(rate: float, tokens: int = 80 * BLOCK) -> Load:
    """Everybody asks about the same long document."""
    return poisson(rate, 300, shared=tokens)


FAST, MIDDLE, SLOW = Speed(8000, 80, 0.05, 2400), Speed(4000, 40, 0.06, 1200), Speed(1200, 20, 0.08, 800)
CASES: Final = (
    Case("1 replica, questions", [MIDDLE], poisson(1.0, 1500)),
    Case("2 equal, few questions", [MIDDLE] * 2, poisson(0.3, 1500)),
    Case("2 equal, questions", [MIDDLE] * 2, poisson(2.0, 1500)),
    Case("2 equal, agents", [MIDDLE] * 2, agents(0.09)),
    Case("4 equal, agents", [MIDDLE] * 4, agents(0.18)),
    Case("4 equal, one document", [MIDDLE] * 4, document(4.5)),
    Case("3 of different speed, questions", [FAST, MIDDLE, SLOW], poisson(3.0, 1500)),
    Case("3 of different speed, agents", [FAST, MIDDLE, SLOW], agents(0.13)),
    Case("3 equal, one fails fast for a third of the time", [MIDDLE] * 3, poisson(2.0, 1500)),
)
ROUTERS: Final = (Router, FewestInFlight, CacheAware, Corral)


@dataclass(frozen=True)
class Row:
    """One line of the answer."""

    case: str
    router: str
    requests: int
    ttft_mean: float
    ttft_p95: float
    whole_mean: float
    cached: float  # share of prompt tokens
    failed: float  # share of requests


def row(case: Case, make: type[Router], seeds: int, seconds: float) -> Row:
    """A router's runs of one case, put together."""
    tallies = [Run(case, make, seed, seconds).go() for seed in range(seeds)]
    ttft = sorted(itertools.chain.from_iterable(tally.ttft for tally in tallies))
    whole = [each for tally in tallies for each in tally.whole]
    failed = sum(tally.failed for tally in tallies)
    return Row(
        case=case.name,
        router=make.name,
        requests=len(ttft) + failed,
        ttft_mean=statistics.fmean(ttft),
        ttft_p95=ttft[int(0.95 * len(ttft))],
        whole_mean=statistics.fmean(whole),
        cached=sum(tally.cached for tally in tallies) / max(1, sum(tally.prompts for tally in tallies)),
        failed=failed / (len(ttft) + failed),
    )


def bursts(rate: float, size: float, mean_prompt: float) -> Load:
    """Many questions at the same moment, more than there are slots."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now, number = 0.0, 0
        while (now := now + chance.expovariate(rate)) < seconds:
            for number in range(number, number + 1 + int(chance.expovariate(1 / size))):  # noqa: B020 - goes on counting
                own = int(min(chance.lognormvariate(0, 0.8) * mean_prompt, 30_000))
                yield Job(now, own, 8 + int(min(chance.expovariate(1 / 200), 1500)), chained(text(f"{number}", own)))

    return load


def honesty(seeds: int, seconds: float) -> dict[str, float]:
    """How long those who had to wait for over a second were told to, over how long they did: quantiles."""
    case = Case("waits", [MIDDLE] * 2, bursts(0.02, 60, 1500))
    ratios: list[float] = []
    for seed in range(seeds):
        run = Run(case, Corral, seed, 5 * seconds)
        run.go()
        if isinstance(run.router, Corral):
            ratios += [expected / real for expected, real in run.router.waits]
    ratios.sort()
    return {"waited": len(ratios)} | {f"p{at}": ratios[len(ratios) * at // 100] for at in (10, 50, 90)}


def main() -> None:
    """Run all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="of simulated time in which requests arrive")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each case, put together")
    parser.add_argument("--only", default="", help="cases with this word in their names")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[Row] = []
    for case in CASES:
        if args.only not in case.name:
            continue
        routers = ROUTERS
        if "fails" in case.name:
            case.failing[1] = (args.seconds / 3, 2 * args.seconds / 3)
            routers = (*ROUTERS, CorralRepeats)
        if not args.json:
            print(f"\n{case.name}\n{'':22}requests  TTFT mean    p95  whole mean  cached  failed")
        for make in routers:
            one = row(case, make, args.seeds, args.seconds)
            rows.append(one)
            if not args.json:
                ttft = f"{one.ttft_mean:8.2f}s {one.ttft_p95:5.2f}s"
                print(
                    f"  {one.router:20}{one.requests:8}  {ttft}  {one.whole_mean:9.2f}s"
                    f"  {one.cached:5.0%}  {one.failed:6.2%}"
                )
    waits = honesty(args.seeds, args.seconds)
    if not args.json:
        print(
            f"\nThe wait that the desk expects, over the real one, in bursts on 2 equal ({waits['waited']} waited):"
            f" p10 {waits['p10']:.2f}, median {waits['p50']:.2f}, p90 {waits['p90']:.2f}"
        )
    if args.json:
        print(
            json.dumps(
                {"schema": "corral.routing-simulation/1", "rows": [asdict(each) for each in rows], "waits": waits}
            )
        )


if __name__ == "__main__":
    main()
