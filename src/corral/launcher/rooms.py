"""What machines have left for one more deployment, beside what others hold; reads no machine and starts nothing.

Two deployments never share the memory that either was planned with. Of main memory (CPUs, and accelerators that use
it) there is what is free now, less what is planned by those that still load and have not taken it; and never more than
the whole less all that is planned, because pages of model files that are mapped look free though they are in use.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.cluster.topology import machine_of
from corral.cluster.values import Cluster, Device
from corral.cluster.values import Node as ClusterNode
from corral.engines.base import Placement
from corral.errors import DoesNotFit
from corral.launcher.node import NodeFacts
from corral.planner.values import Accelerator, NodeResources, RankMemory
from corral.store.values import Holding

MAIN: Final = -1  # in place of a device's index: the machine's own memory


@dataclass(frozen=True, slots=True)
class Held:
    """What other deployments hold of one machine, in bytes."""

    memory: int = 0  # of main memory, planned
    pending: int = 0  # of that, not yet taken, because it still loads
    freed: int = 0  # of main memory, in use now and given back before the placement
    devices: Mapping[int, int] = field(default_factory=dict[int, int])  # planned, by the accelerator's index
    beside: bool = False  # a replica of the same model is on this machine
    beside_devices: frozenset[int] = frozenset()  # accelerators that replicas of the same model use


NOTHING: Final = Held()


def rooms(
    nodes: Sequence[ClusterNode],
    facts: Mapping[str, NodeFacts],
    accelerator: Accelerator,
    held: Mapping[str, Held],
    *,
    engine: str,
) -> Iterator[tuple[NodeResources, ...]]:
    """What the nodes offer, in ways to be tried one after another; `held` is by machine. DoesNotFit when nothing.

    Devices of one node are offered as equal ones, so that where others hold parts of some, first the emptiest are
    offered alone, then with the next, and so on. Replicas of one model go to different devices, or to different nodes
    where these have none, as long as there are such.
    """
    lists = {node.name: _devices(node, facts[node.name], accelerator, _of(held, node), engine) for node in nodes}
    apart = [node for node in nodes if lists[node.name] and not (accelerator == "cpu" and _of(held, node).beside)]
    offering = [node for node in nodes if lists[node.name]]
    if not offering:
        raise DoesNotFit(
            "Other deployments hold all the memory of these nodes.", "End one with `corral down NAME`, or add a node."
        )
    for some in (apart, offering) if 0 < len(apart) < len(offering) else (offering,):
        levels = {node.name: sorted({free for _, free in lists[node.name]}, reverse=True) for node in some}
        for depth in range(max(len(level) for level in levels.values())):
            yield tuple(
                _offer(node, accelerator, lists[node.name], level[min(depth, len(level) - 1)])
                for node in some
                for level in (levels[node.name],)
            )


def offered_part(cluster: Cluster, offered: Sequence[NodeResources]) -> Cluster:
    """The cluster as far as it is offered: devices that have something left, with the memory that is left of each."""
    by_name = {node.name: node for node in offered}
    nodes = tuple(_trimmed(node, by_name[node.name]) for node in cluster.nodes if node.name in by_name)
    return cluster.model_copy(update={"nodes": nodes})


def holdings(
    cluster: Cluster,
    placement: Placement,
    memory: Sequence[RankMemory],
    offered: Sequence[NodeResources],
    *,
    engine: str,
) -> tuple[Holding, ...]:
    """What a placement takes of each machine: vLLM whole accelerators, others what they were planned with."""
    machines = {node.name: machine_of(node) for node in cluster.nodes}
    by_name = {node.name: node for node in offered}
    taken: dict[tuple[str, int], int] = {}
    for seat, rank in zip(placement.seats, memory, strict=True):
        node = by_name[seat.node]
        whole = _takes_all(engine, node.accelerator)
        for device in (MAIN,) if node.unified or not seat.devices else seat.devices:
            key = machines[seat.node], device
            taken[key] = node.device_memory if whole else taken.get(key, 0) + rank.total
    return tuple(Holding(machine=machine, device=device, bytes=size) for (machine, device), size in taken.items())


def _of(held: Mapping[str, Held], node: ClusterNode) -> Held:
    return held.get(machine_of(node), NOTHING)


def _takes_all(engine: str, accelerator: Accelerator) -> bool:
    """Whether an engine fills what it finds: vLLM takes its share of an accelerator's whole memory at once."""
    return engine == "vllm" and accelerator != "cpu"


def _devices(
    node: ClusterNode, facts: NodeFacts, accelerator: Accelerator, held: Held, engine: str
) -> list[tuple[int, int]]:
    """The node's devices that have something left: index and bytes; a node without any is one device of its own."""
    alone = _takes_all(engine, accelerator)
    each = [device for device in node.devices for _ in range(device.count)]
    if accelerator == "cpu" or not each:
        return [(MAIN, left)] if (left := main_memory(node, facts, held)) > 0 else []
    if any(device.unified for device in each):
        left = main_memory(node, facts, held)
        return [] if left <= 0 or (alone and held.memory) else [(index, left) for index in range(len(each))]
    # Equal ones are planned with: of different cards in one machine, each counts as the smallest.
    least = min(device.memory for device in each)
    free = [(index, least - held.devices.get(index, 0)) for index in range(len(each))]
    return [
        (index, left)
        for index, left in free
        if left > 0 and index not in held.beside_devices and not (alone and held.devices.get(index))
    ]


def main_memory(node: ClusterNode, facts: NodeFacts, held: Held) -> int:
    """Bytes of a machine's own memory that a further deployment may be planned with."""
    whole = min(facts.memory_total, node.memory or facts.memory_total)
    return min(facts.memory_available + held.freed - held.pending, whole - held.memory)


def _offer(node: ClusterNode, accelerator: Accelerator, devices: list[tuple[int, int]], level: int) -> NodeResources:
    """The node's devices that have so much left, or more."""
    indices = tuple(index for index, free in devices if free >= level)
    if indices == (MAIN,):
        return NodeResources(name=node.name, devices=1, device_memory=level, accelerator="cpu")
    return NodeResources(
        name=node.name,
        devices=len(indices),
        device_memory=level,
        accelerator=accelerator,
        unified=any(device.unified for device in node.devices),
        indices=indices,
    )


def _trimmed(node: ClusterNode, offered: NodeResources) -> ClusterNode:
    groups: list[Device] = []
    first = 0
    for group in node.devices:
        count = sum(first <= index < first + group.count for index in offered.indices)
        first += group.count
        if count:
            groups.append(group.model_copy(update={"count": count, "memory": min(group.memory, offered.device_memory)}))
    return node.model_copy(update={"devices": tuple(groups)})
