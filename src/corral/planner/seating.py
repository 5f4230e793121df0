"""Puts a layout's ranks onto nodes, and says whether they fit there; chooses no layout."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from corral.engines.base import Layout, Seat
from corral.planner.memory.demand import node_room
from corral.planner.values import NodeResources, RankMemory


@dataclass(frozen=True, slots=True)
class Shortage:
    """The node where memory is shortest: bytes that its fullest device needs and has."""

    node: str
    needed: RankMemory
    ranks: int  # that share this memory
    available: int

    @property
    def missing(self) -> int:
        """Bytes that are lacking; zero or less when it fits."""
        return self.needed.total - self.available


def seats_for(layout: Layout, nodes: Sequence[NodeResources]) -> tuple[Seat, ...] | None:
    """A seat for each rank, in rank order; None when there are too few devices.

    One node when one has devices enough, else as few as possible in the order given, with the ranks of a
    tensor-parallel group side by side. CPU nodes take several ranks each only when there are fewer nodes than ranks.
    """
    for node in nodes:
        if node.devices >= layout.ranks:
            return tuple(_seat(node, device) for device in range(layout.ranks))
    seats: list[Seat] = []
    for node in nodes:
        whole = node.devices // layout.tp * layout.tp or node.devices
        take = min(whole, layout.ranks - len(seats))
        seats += [_seat(node, device) for device in range(take)]
    if len(seats) == layout.ranks:
        return tuple(seats)
    if nodes and all(node.shares_memory for node in nodes):
        return tuple(_seat(nodes[rank * len(nodes) // layout.ranks], 0) for rank in range(layout.ranks))
    return None


def shortage(
    seats: Sequence[Seat], memory: Sequence[RankMemory], nodes: Sequence[NodeResources], engine: str
) -> Shortage:
    """Where memory is shortest, or, when everything fits, where it comes closest to it."""
    by_name = {node.name: node for node in nodes}
    held: dict[tuple[str, tuple[int, ...]], list[RankMemory]] = {}
    for seat, rank in zip(seats, memory, strict=True):
        held.setdefault((seat.node, seat.devices), []).append(rank)
    shortages = [
        Shortage(
            node=name,
            needed=_sum(ranks),
            ranks=len(ranks),
            available=node_room(by_name[name], engine),
        )
        for (name, _), ranks in held.items()
    ]
    return max(shortages, key=lambda one: one.missing)


def _seat(node: NodeResources, device: int) -> Seat:
    return Seat(node=node.name, devices=() if node.accelerator == "cpu" else (node.index(device),))


def _sum(ranks: Sequence[RankMemory]) -> RankMemory:
    classes = Counter[str]()
    for rank in ranks:
        classes.update(rank.by_class)
    parts = ("kv", "state", "activations", "graphs", "communication", "framework", "host")
    return RankMemory(by_class=classes, **{part: sum(getattr(rank, part) for rank in ranks) for part in parts})
