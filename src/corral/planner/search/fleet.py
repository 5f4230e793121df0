"""Makes the search's machines of a cluster file; knows no model."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from corral.catalog.devices import DeviceSpec
from corral.cluster.values import Cluster, Node
from corral.errors import BadInput, DoesNotFit
from corral.planner.search.devices import MEMORY_FLOOR, DeviceSpecs, cpu_spec, pcie_link, peer_link
from corral.planner.search.machines import Domain, Fleet, Machine
from corral.planner.search.wires import wires


def fleet_of(cluster: Cluster, without: Collection[str] = ()) -> Fleet:
    """The machines that may take ranks.

    Nodes without accelerators are left out where others have some, and nodes in `without` always. BadInput for a name
    that is no node, for a device or link that nobody knows; DoesNotFit when no node is left.
    """
    _require_known(cluster, without)
    with_devices = any(node.devices for node in cluster.nodes if node.name not in without)
    nodes: list[Node] = []
    left_out: list[tuple[str, str]] = []
    for node in cluster.nodes:
        why = _why_left_out(node, without, with_devices=with_devices)
        if why:
            left_out.append((node.name, why))
        else:
            nodes.append(node)
    if all(node.name in without for node in cluster.nodes):
        raise BadInput(f"Every node of {cluster.name} was left out.", "Leave fewer nodes out.")
    if not nodes:
        raise DoesNotFit(
            f"No node of {cluster.name} can take a rank: " + "; ".join(f"{name} {why}" for name, why in left_out) + ".",
            "Describe devices, or cpu and memory, in the cluster file.",
        )
    pairs, assumed = wires(cluster, tuple(nodes))
    assumptions = list(assumed)
    machines: list[Machine] = []
    specs = DeviceSpecs()
    for index, node in enumerate(nodes):
        domains, said = _domains(node, specs)
        assumptions += said
        cross = pcie_link(domains[0].device) if len(domains) > 1 else None
        machines.append(Machine(index, node.name, domains, cross, node.power_base))
    kinds = _kinds(machines, pairs)
    return Fleet(tuple(machines), pairs, kinds, tuple(assumptions), tuple(left_out))


def _require_known(cluster: Cluster, without: Collection[str]) -> None:
    names = {node.name for node in cluster.nodes}
    for name in without:
        if name not in names:
            raise BadInput(
                f"There is no node {name!r} in {cluster.name}.", f"Its nodes are {', '.join(sorted(names))}."
            )


def _why_left_out(node: Node, without: Collection[str], *, with_devices: bool) -> str:
    if node.name in without:
        return "is left out as asked"
    if with_devices and not node.devices:
        return "has no accelerator"
    if not node.devices and cpu_spec(node) is None:
        return "has neither devices nor cpu and memory in the cluster file"
    return ""


def _domains(node: Node, specs: DeviceSpecs) -> tuple[tuple[Domain, ...], tuple[str, ...]]:
    """The node's groups of devices; entries that only PCIe joins and that are the same device are one group."""
    if not node.devices:
        described = cpu_spec(node)
        assert described is not None  # noqa: S101 - asked before
        return (Domain(0, 1, described[0], None),), (described[1],)
    domains: list[Domain] = []
    first = 0
    for entry in node.devices:
        spec = specs.of(entry, node.name)
        if spec.usable >= MEMORY_FLOOR:
            found = Domain(first, entry.count, spec, peer_link(entry, spec, node.name), entry.power_limit)
            loose = entry.link is None and spec.peer is None
            last = domains[-1] if domains else None
            if (
                loose
                and last is not None
                and last.device is spec
                and last.limit == found.limit
                and last.first + last.count == first
            ):
                domains[-1] = replace(last, count=last.count + found.count, link=pcie_link(spec))
            else:
                domains.append(found)
        first += entry.count
    if not domains:
        raise DoesNotFit(
            f"No device of {node.name} has a usable GiB of memory.", "Correct `memory` in the cluster file."
        )
    return tuple(domains), ()


def _kinds(machines: list[Machine], pairs: Mapping[tuple[int, int], object]) -> tuple[int, ...]:
    """A number for each machine; two have the same when swapping them changes neither hardware nor any link."""

    def joined(one: int, other: int) -> object:
        return pairs.get((one, other) if one < other else (other, one))

    def twins(one: int, other: int) -> bool:
        if _hardware(machines[one]) != _hardware(machines[other]):
            return False
        others = (third for third in range(len(machines)) if third not in {one, other})
        return all(joined(one, third) == joined(other, third) for third in others)

    kinds: list[int] = []
    for index in range(len(machines)):
        alike = next((first for first in dict.fromkeys(kinds) if twins(first, index)), index)
        kinds.append(alike)
    return tuple(kinds)


def _hardware(machine: Machine) -> tuple[object, ...]:
    shape: list[tuple[int, DeviceSpec, object, float | None]] = [
        (domain.count, domain.device, domain.link, domain.limit) for domain in machine.domains
    ]
    return (*shape, machine.base_watts)
