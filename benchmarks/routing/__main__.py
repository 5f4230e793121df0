"""Which router lets people wait least: a simulation of replicas with prefix caches, the same load under each router.

    python benchmarks/routing [--seconds N] [--seeds N] [--only WORD] [--json]

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
import itertools
import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Final

from loads import agents, bursts, chained, document, poisson, text
from routers import CacheAware, Corral, CorralRepeats, FewestInFlight, Router
from simulation import Case, Run

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.serving import Ready, ServedModel
from corral.gateway.desk.values import Ask, Grant, KeyLimits, Outcome, Replica
from engines import BLOCK, Speed

FAST, MIDDLE, SLOW = Speed(8000, 80, 0.05, 2400), Speed(4000, 40, 0.06, 1200), Speed(1200, 20, 0.08, 800)
CASES: Final = (
    Case("1 replica, questions", [MIDDLE], poisson(1.0, 1500)),
    Case("2 equal, few questions", [MIDDLE] * 2, poisson(0.3, 1500)),
    Case("2 equal, questions", [MIDDLE] * 2, poisson(2.0, 1500)),
    Case("2 equal, agents", [MIDDLE] * 2, agents(0.09)),
    Case("4 equal, agents", [MIDDLE] * 4, agents(0.18)),
    Case("2 equal with 3 slots each, agents", [Speed(slots=3)] * 2, agents(0.075)),
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


def microseconds(replicas: int = 1, requests: int = 30_000) -> float:
    """CPU time that the desk itself takes for a request of a key with all limits: arrive, due, settle, due."""
    desk = Desk()
    served = tuple(Replica(id=f"{n}", base_url=f"http://{n}", served_name="m", slots=16) for n in range(replicas))
    desk.serve(ServedModel(name="m", state=Ready(served)), 0.0)
    most = 1 << 40
    limits = KeyLimits(id="k", requests_per_minute=most, tokens_per_minute=most, tokens_per_day=most, concurrent=99)
    desk.set_keys({"k": limits})
    prompts = [chained(text(f"{n}", 4 * BLOCK)) for n in range(1000)]
    outcome = Outcome(
        end="answered", seconds=0.5, first_token=0.1, prompt_tokens=1000, cached_tokens=0, output_tokens=20
    )
    best = float("inf")
    now = 0.0
    for _ in range(3):
        began = time.process_time()
        for number in range(requests):
            now += 1.0
            prefix = prompts[number % 1000]
            ask = Ask(
                request_id="", route="/v1/chat/completions", model="m", key="k", prompt_tokens=1000, prefix=prefix
            )
            answer = desk.arrive(ask, now, now)
            desk.due(now)
            if isinstance(answer, Grant):
                desk.settle(answer.number, outcome, now + 0.5)
            desk.due(now)
        best = min(best, time.process_time() - began)
    return best / requests * 1e6


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
    cost = {str(replicas): microseconds(replicas) for replicas in (1, 4)}
    if not args.json:
        print(
            f"\nThe wait that the desk expects, over the real one, in bursts on 2 equal ({waits['waited']} waited):"
            f" p10 {waits['p10']:.2f}, median {waits['p50']:.2f}, p90 {waits['p90']:.2f}"
        )
        print(f"The desk's own CPU time a request: {cost['1']:.1f} us with 1 replica, {cost['4']:.1f} us with 4")
    if args.json:
        answer = {"schema": "corral.routing-simulation/1", "rows": [asdict(each) for each in rows]}
        print(json.dumps(answer | {"waits": waits, "microseconds": cost}))


if __name__ == "__main__":
    main()
