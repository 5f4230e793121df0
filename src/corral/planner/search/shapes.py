"""Ways to lay one replica's ranks over a set of machines; knows no model but the degrees that it allows.

Tensor-parallel ranks sit side by side: within a domain where they can, else within a machine, else over machines that
are filled evenly. Pipeline stages fill domain after domain in the order of the machines. A set of machines is used
only for layouts that fewer of them could not hold: the others are found with the smaller set.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from corral.catalog.devices import DeviceSpec, NumberFormat
from corral.catalog.links import LinkSpec
from corral.planner.memory import shown
from corral.planner.search.machines import Domain, Fleet, Machine

# One tensor-parallel group: (machine, its devices) of each machine that it touches.
Stage: TypeAlias = tuple[tuple[Machine, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Ranks of one replica: a stage after the other, each with its devices, and the slowest links they use.

    `islands` counts what `outer` joins: machines, or the domains of one machine that has several.
    """

    tp: int
    pp: int
    stages: tuple[Stage, ...]
    devices: tuple[DeviceSpec, ...]  # of each stage, the slowest
    islands: int
    inner: LinkSpec | None  # between devices of an island; None when each has one
    outer: LinkSpec | None  # between islands; None when there is one
    limit: float | None = None  # watts a device, the lowest that the cluster file sets

    @property
    def machines(self) -> tuple[Machine, ...]:
        """The machines that it uses, each once."""
        return tuple(dict.fromkeys(machine for stage in self.stages for machine, _ in stage))


@dataclass(frozen=True, slots=True)
class _Slot:
    """Room for one stage."""

    stage: Stage
    island: tuple[int, int]
    device: DeviceSpec
    link: LinkSpec | None


def shapes(fleet: Fleet, group: tuple[Machine, ...], degrees: Iterable[int], most_stages: int) -> Iterator[Shape]:
    """All shapes of one replica that need every machine of this group.

    `degrees` are the tensor-parallel degrees that the model allows; `most_stages` is its number of layers.
    """
    for tp in degrees:
        slots = _slots(group, tp)
        if slots:
            without_one = len(slots) - min(sum(slot.stage[0][0] is machine for slot in slots) for machine in group)
            first = 1 if len(group) == 1 else without_one + 1
            for pp in range(first, min(len(slots), most_stages) + 1):
                yield _shape(fleet, tp, slots[:pp])
        elif len(group) > 1:
            yield from _spanning(fleet, group, tp, most_stages)


def _slots(group: tuple[Machine, ...], tp: int) -> list[_Slot]:
    """Room for stages of `tp` devices on each machine; empty when some machine has none."""
    found: list[_Slot] = []
    for machine in group:
        own = [
            slot for number, domain in enumerate(machine.domains) for slot in _in_domain(machine, number, domain, tp)
        ]
        if not own and machine.devices >= tp and len(machine.domains) > 1:
            own = _over_domains(machine, tp)
        if not own:
            return []
        found += own
    return found


def _in_domain(machine: Machine, number: int, domain: Domain, tp: int) -> Iterator[_Slot]:
    for start in range(domain.first, domain.first + domain.count - tp + 1, tp):
        stage = ((machine, tuple(range(start, start + tp))),)
        yield _Slot(stage, (machine.index, number), domain.device, domain.link)


def _over_domains(machine: Machine, tp: int) -> list[_Slot]:
    """A tensor-parallel group over several domains of one machine, which PCIe joins."""
    indices = [index for domain in machine.domains for index in range(domain.first, domain.first + domain.count)]
    weakest = _weakest((machine,))
    return [
        _Slot(((machine, tuple(indices[start : start + tp])),), (machine.index, 0), weakest, machine.cross)
        for start in range(0, len(indices) - tp + 1, tp)
    ]


def _shape(fleet: Fleet, tp: int, slots: list[_Slot]) -> Shape:
    islands = tuple(dict.fromkeys(slot.island for slot in slots))
    shared = tp > 1 or len(slots) > len(islands)
    inner = slowest(slot.link for slot in slots) if shared else None
    return Shape(
        tp=tp,
        pp=len(slots),
        stages=tuple(slot.stage for slot in slots),
        devices=tuple(slot.device for slot in slots),
        islands=len(islands),
        inner=inner,
        outer=_between(fleet, slots) if len(islands) > 1 else None,
        limit=_limit(machine for slot in slots for machine, _ in slot.stage),
    )


def _between(fleet: Fleet, slots: list[_Slot]) -> LinkSpec | None:
    """The slowest link that a hand-off from stage to stage takes."""
    links: list[LinkSpec | None] = []
    for one, two in pairwise(slots):
        if one.island == two.island:
            continue
        (before, _), (after, _) = one.stage[0], two.stage[0]
        links.append(before.cross if before is after else fleet.link(before.index, after.index))
    return slowest(links)


def _spanning(fleet: Fleet, group: tuple[Machine, ...], tp: int, most_stages: int) -> Iterator[Shape]:
    """Tensor-parallel groups over several machines, with equally many devices of each."""
    fewest, most = min(machine.devices for machine in group), max(machine.devices for machine in group)
    for each in range(fewest, 0, -1):
        machines_a_stage = tp // each
        if (
            tp % each
            or machines_a_stage < 2
            or len(group) % machines_a_stage
            or len(group) * each <= (len(group) - 1) * most
        ):
            continue
        pp = len(group) // machines_a_stage
        if pp > most_stages:
            continue
        stages = [group[start : start + machines_a_stage] for start in range(0, len(group), machines_a_stage)]
        outer = slowest(
            fleet.link(one.index, two.index)
            for stage in stages
            for at, one in enumerate(stage)
            for two in stage[at + 1 :]
        )
        if outer is None:
            continue
        domains = [domain for machine in group for domain in machine.domains]
        yield Shape(
            tp=tp,
            pp=pp,
            stages=tuple(tuple((machine, _first(machine, each)) for machine in stage) for stage in stages),
            devices=tuple(_weakest(stage) for stage in stages),
            islands=len(group),
            inner=None
            if each == 1
            else slowest(
                [
                    *(domain.link for domain in domains if domain.link),
                    *(machine.cross for machine in group if machine.cross and machine.domains[0].count < each),
                ]
            ),
            outer=outer,
            limit=_limit(group),
        )


def _limit(machines: Iterable[Machine]) -> float | None:
    limits = [domain.limit for machine in machines for domain in machine.domains if domain.limit is not None]
    return min(limits, default=None)


def _first(machine: Machine, count: int) -> tuple[int, ...]:
    indices = [index for domain in machine.domains for index in range(domain.first, domain.first + domain.count)]
    return tuple(indices[:count])


def _weakest(machines: Iterable[Machine]) -> DeviceSpec:
    """What every device of these machines can do at least: where they differ, a device of the least in each respect."""
    devices = list({id(d.device): d.device for machine in machines for d in machine.domains}.values())
    slowest = min(devices, key=lambda device: device.bandwidth)
    if len(devices) == 1:
        return slowest
    common: list[NumberFormat] = [name for name in slowest.flops if all(name in device.flops for device in devices)]
    in_matrix = {name for name in slowest.matrix if all(name in device.matrix for device in devices)}
    unified = any(device.unified for device in devices)
    least: dict[str, object] = {
        "memory": min(device.memory for device in devices),
        "usable": min(shown(device) if unified else device.usable for device in devices),
        "unified": unified,
        "flops": {name: min(device.flops[name] for device in devices) for name in common},
        "matrix": frozenset(in_matrix),
    }
    return slowest.model_copy(update=least)


def slowest(links: Iterable[LinkSpec | None]) -> LinkSpec | None:
    """The link of the least bandwidth, of equals the one with the most latency; None when one is missing."""
    found: LinkSpec | None = None
    for link in links:
        if link is None:
            return None
        if found is None or (link.bandwidth, -link.latency) < (found.bandwidth, -found.latency):
            found = link
    return found
