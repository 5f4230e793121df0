"""What the desk holds does not grow with the requests that it saw."""

import gc
import tracemalloc

from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import KeyLimits, Outcome
from corral.gateway.errors import ApiError
from gateway.desk.clocked import Clocked, answered, ready, replica

ENDS = (
    *[answered(0.5, first_token=0.1, prompt_tokens=900, cached_tokens=100, output_tokens=50)] * 8,
    Outcome(end="left", status=200, seconds=0.3, first_token=0.1),
    Outcome(end="cut", status=200, seconds=0.3, first_token=0.1),
)


def storm(clocked: Clocked, first: int, last: int) -> None:
    """A crowd of clients: each tenth leaves or fails, some wait, some are refused."""
    running = []
    for number in range(first, last):
        clocked.now += 0.2
        key = f"k{number % 50}"
        prefix = tuple(f"{number // 7}.{block}".encode() for block in range(4))
        try:
            answer = clocked.arrive(key=key, prompt_tokens=900, prefix=prefix, patience=2.0)
        except ApiError:
            answer = None
        if isinstance(answer, Ticket):
            if number % 5 == 0:
                clocked.desk.leave(answer, clocked.now)
        elif answer is not None:
            running.append(answer)
        running += [each for _, each in clocked.due() if not isinstance(each, ApiError)]
        while len(running) > 5:
            clocked.settle(running.pop(0), ENDS[number % 10])
        for probe in clocked.desk.probes(clocked.now):
            clocked.desk.probed(probe.id, ok=True, now=clocked.now)
    for grant in running:
        clocked.settle(grant)


def test_memory_is_flat():
    clocked = Clocked(DeskSettings(prefix_entries=256, queue_limit=20))
    clocked.serve(ready(replica("r0", slots=3), replica("r1", slots=3)))
    clocked.keys(*(KeyLimits(id=f"k{n}", requests_per_minute=1000, tokens_per_minute=10**6) for n in range(50)))
    storm(clocked, 0, 2_000)
    gc.collect()
    tracemalloc.start()
    storm(clocked, 2_000, 3_000)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    storm(clocked, 3_000, 7_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 64 * 1024
