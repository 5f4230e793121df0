"""Sets of machines worth trying a replica on, without those that only swap equal machines; knows no model."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, islice, pairwise, product
from typing import Final

from corral.planner.search.machines import Fleet, Machine

# Sets of counts by kind that are all tried; a cluster of more mixed machines is tried by its orders of merit alone.
_MOST_COUNTS: Final = 600


def groups(fleet: Fleet) -> Iterator[tuple[Machine, ...]]:
    """Sets of connected machines of one maker, the smallest first, each set in an order good for a pipeline.

    Of equal machines the first ones stand for all. Taking a machine away from a cluster takes away sets and adds none:
    what is best over all sets can only get better with more machines.
    """
    seen: set[tuple[int, ...]] = set()
    for chosen in sorted(_choices(fleet), key=len):
        if chosen and chosen not in seen and len({fleet.machines[index].vendor for index in chosen}) == 1:
            seen.add(chosen)
            ordered = _chain(fleet, chosen)
            if ordered:
                yield ordered


def count_of_copies(fleet: Fleet, group: tuple[Machine, ...]) -> int:
    """How many groups like this one there are, no machine twice."""
    wanted = Counter(fleet.kinds[machine.index] for machine in group)
    there = Counter(fleet.kinds)
    return min(there[kind] // count for kind, count in wanted.items())


def copies(fleet: Fleet, group: tuple[Machine, ...]) -> tuple[tuple[Machine, ...], ...]:
    """This group and further ones like it, no machine twice: where replicas of it can stand."""
    wanted = Counter(fleet.kinds[machine.index] for machine in group)
    by_kind: dict[int, list[Machine]] = {}
    for machine in fleet.machines:
        by_kind.setdefault(fleet.kinds[machine.index], []).append(machine)
    times = count_of_copies(fleet, group)
    found: list[tuple[Machine, ...]] = []
    for time in range(times):
        taken: Counter[int] = Counter()
        members: list[Machine] = []
        for machine in group:
            kind = fleet.kinds[machine.index]
            members.append(by_kind[kind][time * wanted[kind] + taken[kind]])
            taken[kind] += 1
        found.append(tuple(members))
    return tuple(found)


def _choices(fleet: Fleet) -> Iterator[tuple[int, ...]]:
    members: dict[int, list[int]] = {}
    for machine, kind in zip(fleet.machines, fleet.kinds, strict=True):
        members.setdefault(kind, []).append(machine.index)
    total = 1
    for indices in members.values():
        total *= len(indices) + 1
    if total <= _MOST_COUNTS:
        for counts in product(*(range(len(indices) + 1) for indices in members.values())):
            yield tuple(sorted(i for indices, n in zip(members.values(), counts, strict=True) for i in indices[:n]))
        return
    yield from _by_merit(fleet)


def _by_merit(fleet: Fleet) -> Iterator[tuple[int, ...]]:
    """Each machine alone, each pair, and the best 3, 4, ... by memory, by bandwidth and by how well they are joined."""
    indices = range(len(fleet.machines))
    for one in indices:
        yield (one,)
    yield from islice(combinations(indices, 2), _MOST_COUNTS)

    def memory(index: int) -> float:
        return -sum(domain.count * domain.device.usable for domain in fleet.machines[index].domains)

    def bandwidth(index: int) -> float:
        return -min(domain.device.bandwidth for domain in fleet.machines[index].domains)

    def joined(index: int) -> float:
        links = (fleet.link(index, other) for other in indices if other != index)
        return -sum(link.bandwidth for link in links if link is not None)

    for merit in (memory, bandwidth, joined):
        order = sorted(indices, key=merit)
        for count in range(3, len(order) + 1):
            yield tuple(sorted(order[:count]))


def _chain(fleet: Fleet, chosen: tuple[int, ...]) -> tuple[Machine, ...]:
    """The machines in an order in which each is joined to the next, over the fastest links; () when there is none.

    Greedy from each machine: exact for switches, and for the rings and meshes that three or four machines make.
    """
    machines = fleet.machines
    if len(chosen) == 1:
        return (machines[chosen[0]],)
    if _all_alike(fleet, chosen):
        return tuple(machines[index] for index in chosen)
    best: tuple[float, tuple[int, ...]] | None = None
    for start in chosen:
        order = [start]
        left = [index for index in chosen if index != start]
        while left:
            rates = [(link.bandwidth, -index) for index in left if (link := fleet.link(order[-1], index)) is not None]
            if not rates:
                break
            following = -max(rates)[1]
            order.append(following)
            left.remove(following)
        if not left:
            slowest = min(link.bandwidth for one, two in pairwise(order) if (link := fleet.link(one, two)) is not None)
            if best is None or slowest > best[0]:
                best = slowest, tuple(order)
    return tuple(machines[index] for index in best[1]) if best else ()


def _all_alike(fleet: Fleet, chosen: tuple[int, ...]) -> bool:
    """Whether every pair is joined by the same link, so that any order will do."""
    first = fleet.link(chosen[0], chosen[1])
    if first is None:
        return False
    if len({fleet.kinds[index] for index in chosen}) == 1:
        return True
    return all(fleet.link(one, two) is first or fleet.link(one, two) == first for one, two in combinations(chosen, 2))
