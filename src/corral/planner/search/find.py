"""The search itself: every trial weighed, those that fit ranked; knows no wording."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.planner.memory import largest_context, room, stage_memory
from corral.planner.power import cluster_power
from corral.planner.search.degrees import Degrees
from corral.planner.search.engines import against
from corral.planner.search.judge import Asked, Trial, holds, layer_choices, memory_case, speed, trial
from corral.planner.search.machines import Fleet
from corral.planner.search.offers import Offer, runs_on, stages_allowed
from corral.planner.search.shapes import Shape
from corral.planner.search.targets import Figures, merit
from corral.planner.search.trials import Pruning, all_shapes, degrees_of, kind_of
from corral.planner.speed.values import Speed
from corral.planner.values import RankMemory


@dataclass(frozen=True, slots=True)
class Weighed:
    """A trial that fits, with what it holds and how fast it is."""

    trial: Trial
    memory: tuple[RankMemory, ...]  # of one rank of each stage
    speed: Speed
    merit: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """A trial that does not fit, and where it is shortest."""

    trial: Trial
    stage: int
    memory: RankMemory
    usable: int

    @property
    def missing(self) -> int:
        """Bytes that are lacking."""
        return self.memory.total - self.usable


@dataclass(frozen=True, slots=True)
class Found:
    """What the search came to: what fits, best first, and how many layouts were looked at."""

    weighed: tuple[Weighed, ...]
    considered: int


def find(asked: Asked, fleet: Fleet, offers: Sequence[Offer], only: Degrees | None = None) -> Found:
    """Weigh every layout of every offer; with `only`, that layout."""
    found = [
        (shape, tuple((degrees, kind_of(fleet, shape, degrees)) for degrees in ways))
        for shape in all_shapes(fleet, asked.model, only)
        if (ways := tuple(degrees_of(shape, asked.model, fleet, asked.work.concurrency, only)))
    ]
    weighed: list[Weighed] = []
    considered = 0
    for offer in offers:
        pruning = Pruning(asked.work.target)
        least, stages = asked.least_bytes(offer), stages_allowed(offer.engine, asked.model)
        for shape, ways in found:
            considered += len(ways)
            if not _possible(shape, offer, least) or not runs_on(offer, shape.machines):
                continue
            for degrees, key in ways:
                if only is None and pruning.skips(key, shape.pp):
                    continue
                if against(offer.engine, shape, degrees, stages=stages):
                    continue
                one = _weigh(asked, offer, shape, degrees)
                if one is not None:
                    pruning.fits(key, shape.pp)
                    weighed.append(one)
    weighed.sort(key=lambda one: one.merit, reverse=True)
    return Found(tuple(weighed), considered)


def _possible(shape: Shape, offer: Offer, least: int) -> bool:
    """Whether `least` bytes of weights could fit: a cheap look before each rank is counted."""
    first = shape.devices[0]
    if all(device is first for device in shape.devices):
        return least <= room(first, offer.engine) * shape.pp * shape.tp
    return least <= sum(room(device, offer.engine) for device in shape.devices) * shape.tp


def _weigh(asked: Asked, offer: Offer, shape: Shape, degrees: Degrees) -> Weighed | None:
    for layers in layer_choices(asked, shape, offer.engine):
        one = trial(shape, degrees, offer, layers)
        memory = holds(asked, one)
        if memory is not None:
            found = speed(asked, one, asked.power_limit)
            return Weighed(one, memory, found, merit(asked.work.target, _figures(asked, one, found)))
    return None


def _figures(asked: Asked, trial: Trial, found: Speed) -> Figures:
    target = asked.work.target
    return Figures(
        decode=found.decode.value,
        output=found.output.value,
        ttft=found.ttft.value,
        answer=found.ttft.value + asked.work.output / max(found.decode.value, 1e-9),
        context=largest_context(memory_case(asked, trial)) if target == "context" else 0,
        wh_per_1000=energy(asked, trial, found) if target == "watts" else 0.0,
        devices=trial.degrees.ranks,
        bits=trial.offer.bits,
    )


def energy(asked: Asked, trial: Trial, found: Speed) -> float:
    """Watt hours at the wall for 1,000 generated tokens, the machines that have no rank switched off."""
    used: dict[str, int] = {}
    machines = {machine.index: machine for machine in trial.shape.machines}
    for stage in trial.shape.stages:
        for machine, devices in stage:
            used[machine.name] = used.get(machine.name, 0) + len(devices)
    work = asked.work
    one = cluster_power(
        tuple(machines.values()), used, found, prompt=work.prompt, output=work.output, limit=asked.power_limit
    )
    return one.wh_per_1000 * trial.degrees.replicas


def closest(asked: Asked, fleet: Fleet, offers: Sequence[Offer], only: Degrees | None = None) -> Missed | None:
    """Of the layouts that do not fit the one that lacks least; None when there is no layout at all."""
    best: Missed | None = None
    for offer in offers:
        for shape in all_shapes(fleet, asked.model, only):
            for degrees in degrees_of(shape, asked.model, fleet, 1, only):
                if not runs_on(offer, shape.machines) or against(
                    offer.engine, shape, degrees, stages=stages_allowed(offer.engine, asked.model)
                ):
                    continue
                missed = _missed(asked, offer, shape, degrees)
                if best is None or missed.missing < best.missing:
                    best = missed
    return best


def any_fits(asked: Asked, fleet: Fleet, offers: Sequence[Offer], only: Degrees | None = None) -> bool:
    """Whether some layout fits, however fast."""
    found = all_shapes(fleet, asked.model, only)
    return any(
        holds(asked, trial(shape, degrees, offer, layers)) is not None
        for offer in offers
        for shape in reversed(found)
        if _possible(shape, offer, asked.least_bytes(offer)) and runs_on(offer, shape.machines)
        for degrees in degrees_of(shape, asked.model, fleet, asked.work.concurrency, only)
        if not against(offer.engine, shape, degrees, stages=stages_allowed(offer.engine, asked.model))
        for layers in layer_choices(asked, shape, offer.engine)
    )


def _missed(asked: Asked, offer: Offer, shape: Shape, degrees: Degrees) -> Missed:
    layers = layer_choices(asked, shape, offer.engine)[0]
    one = trial(shape, degrees, offer, layers)
    held = stage_memory(memory_case(asked, one))
    short = [
        Missed(one, stage, memory, room(device, offer.engine))
        for stage, (memory, device) in enumerate(zip(held, shape.devices, strict=True))
    ]
    return max(short, key=lambda missed: missed.missing)
