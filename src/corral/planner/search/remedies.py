"""What would make a model fit where it does not: each single change that does, tried out; chooses no layout."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from corral.catalog.links import link
from corral.planner.bisection import largest
from corral.planner.search.degrees import Degrees
from corral.planner.search.engines import title
from corral.planner.search.find import Missed, any_fits
from corral.planner.search.judge import Asked
from corral.planner.search.machines import Fleet
from corral.planner.search.offers import Offer
from corral.units import format_bytes

_MOST_NODES: Final = 16
_LEAST_CONTEXT: Final = 512  # tokens; less is of no use to anybody
_STEP: Final = 256
# Formats of fewer bits, which are not tried unless asked for; the widest first.
_NARROWER: Final = (
    ("q3_k_m", 3.9),
    ("iq2_m", 2.7),
)


@dataclass(frozen=True, slots=True)
class Want:
    """What did not fit."""

    asked: Asked
    fleet: Fleet
    offers: Sequence[Offer]
    only: Degrees | None

    def fits(self, **changes: object) -> bool:
        """Whether something fits with another context or concurrency."""
        work = self.asked.work.model_copy(update=changes)
        return any_fits(replace(self.asked, work=work), self.fleet, self.offers, self.only)


def sentence(want: Want, missed: Missed) -> str:
    """What does not fit, where, and by how much."""
    trial, memory = missed.trial, missed.memory
    machine, _ = trial.shape.stages[missed.stage][0]
    split = "on one device" if trial.degrees.ranks == 1 else f"split {trial.degrees}"
    return (
        f"{want.asked.model.name} does not fit on these machines: the layout that lacks least, {split} with"
        f" {title(trial.offer.engine)} and {trial.offer.weights}, needs {format_bytes(memory.total)} of a device of"
        f" {machine.name} (weights {format_bytes(memory.weights)}, cache {format_bytes(memory.kv + memory.state)},"
        f" engine {format_bytes(memory.overhead)}), of which {format_bytes(missed.usable)} can be used:"
        f" {format_bytes(missed.missing)} too little."
    )


def remedy(want: Want, missed: Missed) -> str:
    """Every single change that would make it fit; a smaller model is always one."""
    work = want.asked.work
    ways: list[str | None] = []
    fewer = largest(lambda count: want.fits(concurrency=count), 1, work.concurrency - 1)
    ways.append(f"--concurrency {fewer}" if fewer else None)
    steps = largest(
        lambda count: want.fits(context=count * _STEP), _LEAST_CONTEXT // _STEP, (work.context - 1) // _STEP
    )
    ways.append(f"--context {steps * _STEP}" if steps else None)
    ways.append(_narrower(want))
    ways.append(_more_nodes(want) if want.only is None else None)
    if want.only is not None and any_fits(want.asked, want.fleet, want.offers):
        ways.append("another layout (leave --layout out)")
    ways.append(_smaller(missed))
    return f"It would fit with {', or with '.join(way for way in ways if way)}."


def _narrower(want: Want) -> str | None:
    if all(offer.engine != "llamacpp" for offer in want.offers):
        return None
    asked = want.asked.of_other_files()
    devices = frozenset(device for offer in want.offers if offer.engine == "llamacpp" for device in offer.devices)
    for name, bits in _NARROWER:
        offer = Offer("llamacpp", name, "auto", bits, devices)
        if offer.bits < min(other.bits for other in want.offers) and any_fits(asked, want.fleet, [offer], want.only):
            return f"--quant {offer.weights}, at a cost in quality"
    return None


def _more_nodes(want: Want) -> str | None:
    fleet = want.fleet
    last = fleet.machines[-1]
    for more in range(1, _MOST_NODES - len(fleet.machines) + 1):
        fleet = _one_more(fleet)
        if any_fits(want.asked, fleet, want.offers):
            return f"{more} more node{'s' if more > 1 else ''} like {last.name}"
    return None


def _one_more(fleet: Fleet) -> Fleet:
    """The fleet with a twin of its last machine, joined as that one is; to it by the best link it has."""
    last = fleet.machines[-1]
    twin = replace(last, index=len(fleet.machines), name=f"{last.name}+")
    own = {pair: spec for pair, spec in fleet.links.items() if last.index in pair}
    links = dict(fleet.links)
    for (one, other), spec in own.items():
        links[one if other == last.index else other, twin.index] = spec
    best = max(own.values(), key=lambda spec: spec.bandwidth, default=None)
    links[last.index, twin.index] = best or link("tcp-10g")
    return replace(fleet, machines=(*fleet.machines, twin), links=links, kinds=(*fleet.kinds, fleet.kinds[-1]))


def _smaller(missed: Missed) -> str:
    """The size of weights that the place where it is shortest leaves room for, scaled to the whole model."""
    memory = missed.memory
    free = missed.usable - memory.kv - memory.state - memory.overhead
    whole = memory.weights * missed.trial.degrees.ranks
    if free <= 0:
        return "a smaller model"
    fitting = format_bytes(whole * free / max(1, memory.weights))
    return f"a model of about {fitting} of weights instead of {format_bytes(whole)}"
