"""Where further replicas of a layout can stand; knows no model."""

from corral.planner.search.groups import copies, count_of_copies
from corral.planner.search.machines import Fleet, Machine
from corral.planner.search.shapes import Shape, Stage


def seats_of_replicas(fleet: Fleet, shape: Shape) -> tuple[tuple[Stage, ...], ...]:
    """The stages of each replica that finds room beside the others, the first as the shape has them.

    A replica of several machines takes them whole; one of a single machine leaves room for others there.
    """
    machines = shape.machines
    first, *others = machines
    if others:
        return tuple(_moved(shape.stages, dict(zip(machines, twins, strict=True))) for twins in copies(fleet, machines))
    inside = _inside(first, shape)
    return tuple(_moved(stages, {first: twin}) for (twin,) in copies(fleet, machines) for stages in inside)


def count_of_replicas(fleet: Fleet, shape: Shape) -> int:
    """How many replicas find room."""
    machines = shape.machines
    first, *others = machines
    return count_of_copies(fleet, machines) * (1 if others else len(_inside(first, shape)))


def _inside(machine: Machine, shape: Shape) -> tuple[tuple[Stage, ...], ...]:
    """Replicas on one machine: the next free devices, as long as they cross domains no more often than the first."""
    free = [index for domain in machine.domains for index in range(domain.first, domain.first + domain.count)]
    islands = {index: number for number, domain in enumerate(machine.domains)
               for index in range(domain.first, domain.first + domain.count)}  # fmt: skip
    size = shape.tp * shape.pp
    if shape.tp > max(domain.count for domain in machine.domains):
        blocks = [free[start : start + size] for start in range(0, len(free) - size + 1, size)]
    else:
        # Devices that a domain has beyond whole tensor-parallel groups take no rank.
        whole = [
            domain.first + offset for domain in machine.domains for offset in range(domain.count // shape.tp * shape.tp)
        ]
        blocks = [whole[start : start + size] for start in range(0, len(whole) - size + 1, size)]
    crossed = [len({islands[index] for index in block}) for block in blocks]
    return tuple(
        tuple(((machine, tuple(block[at : at + shape.tp])),) for at in range(0, size, shape.tp))
        for block, count in zip(blocks, crossed, strict=True)
        if count <= crossed[0]
    )


def _moved(stages: tuple[Stage, ...], to: dict[Machine, Machine]) -> tuple[Stage, ...]:
    return tuple(tuple((to[machine], devices) for machine, devices in stage) for stage in stages)
