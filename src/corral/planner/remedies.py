"""Says what would fit where a model does not; asks a given question of fit, and knows nothing of how it is answered."""

from collections.abc import Callable
from typing import Final

from corral.planner.bisection import largest
from corral.planner.seating import Shortage
from corral.planner.values import Demand
from corral.units import format_bytes

_MOST_NODES: Final = 16
_LEAST_CONTEXT: Final = 512  # tokens; less is of no use to anybody
_CONTEXT_STEP: Final = 256

Fits = Callable[[Demand], bool]


def remedy(demand: Demand, fits: Fits, short: Shortage) -> str:
    """One sentence with every single change that would make it fit; a smaller model is always one."""
    ways = (_fewer_requests(demand, fits), _shorter_context(demand, fits), _more_nodes(demand, fits))
    known = [way for way in (*ways, _smaller_model(demand, short)) if way]
    return f"It would fit with {', or with '.join(known)}."


def _fewer_requests(demand: Demand, fits: Fits) -> str | None:
    count = largest(lambda count: fits(demand.model_copy(update={"concurrency": count})), 1, demand.concurrency - 1)
    return f"--concurrency {count}" if count else None


def _shorter_context(demand: Demand, fits: Fits) -> str | None:
    steps = largest(
        lambda steps: fits(demand.model_copy(update={"context": steps * _CONTEXT_STEP})),
        _LEAST_CONTEXT // _CONTEXT_STEP,
        (demand.context - 1) // _CONTEXT_STEP,
    )
    return f"--context {steps * _CONTEXT_STEP}" if steps else None


def _more_nodes(demand: Demand, fits: Fits) -> str | None:
    """More nodes like the last one, when no layout was named (a named one uses no more of them)."""
    last = demand.nodes[-1]
    for more in range(1, _MOST_NODES - len(demand.nodes) + 1):
        twins = tuple(last.model_copy(update={"name": f"{last.name}+{number}"}) for number in range(1, more + 1))
        if fits(demand.model_copy(update={"nodes": (*demand.nodes, *twins)})):
            return f"{more} more node{'s' if more > 1 else ''} like {last.name}"
    return None


def _smaller_model(demand: Demand, short: Shortage) -> str:
    """The size of weights that the place where it is shortest leaves room for, scaled to the whole model."""
    room = short.available - short.needed.cache - short.needed.overhead
    if room <= 0:
        return "a smaller model"
    whole = demand.model.weights_bytes * room // max(1, short.needed.weights)
    return f"a model of about {format_bytes(whole)} of weights instead of {format_bytes(demand.model.weights_bytes)}"
