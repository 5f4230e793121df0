"""All layouts worth weighing, as trials; leaves out what a smaller one of the same kind does better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from corral.models.architecture import ModelArchitecture
from corral.planner.plan import Target
from corral.planner.search.degrees import Degrees
from corral.planner.search.divisible import splits_experts, spreads_experts, tensor_degrees
from corral.planner.search.groups import groups
from corral.planner.search.machines import Fleet, Machine
from corral.planner.search.replicas import count_of_replicas
from corral.planner.search.shapes import Shape, shapes


@dataclass(slots=True)
class Pruning:
    """Which pipeline depths are still worth a look, once one of a kind is known to fit.

    With the same tensor-parallel degree on the same kind of machines, more stages than fit the model add hand-offs and
    save nothing for a single stream. All streams together gain from them, and longer contexts find room: where that
    is wanted, depths that double are looked at as well. Machines that differ are never left out for each other's sake.
    """

    target: Target
    _first: dict[object, int] = field(default_factory=dict[object, int])

    def skips(self, key: object, stages: int) -> bool:
        """Whether this depth is not worth a look."""
        first = self._first.get(key)
        if first is None:
            return False
        ratio, left = divmod(stages, first)
        return left > 0 or ratio & (ratio - 1) > 0 or (ratio > 1 and self.target == "speed")

    def fits(self, key: object, stages: int) -> None:
        """Note that this depth fits."""
        self._first.setdefault(key, stages)


def all_shapes(fleet: Fleet, model: ModelArchitecture, only: Degrees | None = None) -> tuple[Shape, ...]:
    """Every shape of one replica, the fewest machines first; with `only`, those of these degrees."""
    most = sum(machine.devices for machine in fleet.machines)
    if only is None:
        degrees: Sequence[int] = tensor_degrees(model, most)
    else:
        degrees = (only.tp * (only.dp if only.shares_experts else 1),)
    found: list[Shape] = []
    for group in groups(fleet):
        if only is not None and sum(machine.devices for machine in group) < degrees[0] * only.pp:
            continue
        found += (shape for shape in shapes(fleet, group, degrees, model.layers) if only is None or shape.pp == only.pp)
    return tuple(found)


def degrees_of(
    shape: Shape, model: ModelArchitecture, fleet: Fleet, concurrency: int, only: Degrees | None
) -> Iterator[Degrees]:
    """What a shape's ranks may do: split experts or spread them, attend together or each for its own requests.

    Replicas are tried one at a time and as many as there is room and are requests for.
    """
    if only is not None:
        yield only
        return
    tp, pp = shape.tp, shape.pp
    ways = [Degrees(tp, pp)] if splits_experts(model, tp) else []
    if tp > 1 and spreads_experts(model, tp):
        ways.append(Degrees(tp, pp, tp))
        if concurrency >= tp:
            ways.append(Degrees(1, pp, tp, tp))
    if not ways:
        return
    room = min(count_of_replicas(fleet, shape), concurrency) if concurrency > 1 else 1
    for way in ways:
        yield way
        if room > 1 and way.dp == 1:
            yield Degrees(way.tp, way.pp, way.ep, room)


def kind_of(fleet: Fleet, shape: Shape, degrees: Degrees) -> object:
    """What must be equal for two depths of a pipeline to be compared."""
    machines: tuple[Machine, ...] = shape.machines
    return (
        degrees.tp,
        degrees.ep,
        degrees.dp > 1,
        frozenset(fleet.kinds[machine.index] for machine in machines),
    )
