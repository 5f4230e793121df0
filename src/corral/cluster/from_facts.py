"""What the probe said of each machine -> the nodes, fabric addresses and links of a Cluster; asks nobody anything."""

import re
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from itertools import chain, count, groupby
from typing import Any, Final, cast

from corral.catalog.links import nearest_link
from corral.cluster.values import Cluster, Cpu, Device, Disk, Link, Nic, Node
from corral.units import GIB

Facts = Mapping[str, Any]
_TENTH: Final = GIB // 10
# Interfaces of container runtimes, virtual machines and overlay networks: no rank talks over them.
_NOT_FABRIC: Final = re.compile(r"(docker|podman|cni|flannel|virbr|vnet|br-[0-9a-f]{12}|tailscale|wg|utun|tun|tap|zt)")
_UNKNOWN_SPEED: Final = 0


def node_from_facts(base: Node, facts: Facts) -> Node:
    """`base` (name, address, ssh) completed by what the probe saw; what it did not see stays as it is in `base`."""
    cpu, memory, system = (seen(facts, part) for part in ("cpu", "memory", "system"))
    found: dict[str, Any] = {
        "devices": devices_from_facts(facts),
        "nics": nics_from_facts(facts),
        "disks": tuple(
            Disk(path=disk["path"], size=_tidy(disk["size"]), free=_tidy(disk["free"]))
            for disk in _rows(facts, "disks")
            if disk["use"] in {"cache", "shm"}
        ),
    }
    if cpu:
        architecture = system.get("architecture") or "unknown"
        found["cpu"] = Cpu(model=cpu.get("model") or "unknown", cores=cpu["cores"], architecture=architecture)
    if memory.get("total"):
        found["memory"] = _tidy(memory["total"])
    runtimes = [name for name in ("podman", "docker") if seen(facts, "containers").get(name)]
    if runtimes:
        found["runtime"] = runtimes[0]
    return base.model_copy(update={name: value for name, value in found.items() if value})


def seen(facts: Facts, part: str) -> Facts:
    """A part of the facts; empty when it was not seen."""
    value = _mapping(facts.get(part))
    return {} if "not_seen" in value else value


def not_seen(facts: Facts) -> dict[str, str]:
    """Why each part that was not seen was not, by part."""
    parts = {name: _mapping(part) for name, part in facts.items()}
    return {name: str(part["not_seen"]) for name, part in parts.items() if "not_seen" in part}


def devices_from_facts(facts: Facts) -> tuple[Device, ...]:
    """The accelerators, equal neighbours counted as one entry; unified memory of unknown size is the machine's."""
    total = seen(facts, "memory").get("total") or 0
    single = [
        Device(
            name=gpu.get("name") or f"unknown {vendor} GPU",
            vendor=vendor,
            memory=_tidy(gpu.get("memory") or total),
            unified=bool(gpu.get("unified")),
            power_limit=gpu.get("power_limit") or None,
            capability=gpu.get("capability") or None,
            driver=gpu.get("driver") or None,
        )
        for vendor in ("nvidia", "amd", "apple")
        for gpu in _rows(facts, vendor)
    ]
    return tuple(device.model_copy(update={"count": len(list(same))}) for device, same in groupby(single))


def nics_from_facts(facts: Facts) -> tuple[Nic, ...]:
    """The interfaces that are up or have an address; speeds in bytes a second."""
    rdma = {port["nic"]: port["name"] for port in _rows(facts, "rdma") if port["state"] == "active"}
    return tuple(
        Nic(
            name=nic["name"],
            addresses=tuple(nic["addresses"]),
            speed=nic["speed"] // 8 if nic["speed"] else None,
            mtu=nic["mtu"] or None,
            mac=nic["mac"] or None,
            driver=nic["driver"] or None,
            rdma=rdma.get(nic["name"]),
        )
        for nic in _rows(facts, "nics")
        if nic["addresses"] or (nic["state"] == "up" and not nic["virtual"])
    )


def cluster_from_nodes(nodes: Sequence[Node], name: str = "corral") -> Cluster:
    """A cluster of these nodes, with fabric addresses and links guessed from their NICs where several are joined."""
    if len(nodes) == 1:
        return Cluster(name=name, nodes=tuple(nodes))
    common = fastest_common_subnet(nodes)
    if common is None:
        return Cluster(name=name, nodes=tuple(_reachable(node) for node in nodes))
    placed = tuple(_at(node, address) for node, (_, address) in zip(nodes, common, strict=True))
    return Cluster(name=name, nodes=placed, links=_links(placed, [nic for nic, _ in common]))


def _at(node: Node, address: str) -> Node:
    """The node with this fabric address, which is left out where it is the management address too."""
    return node if address == node.address else node.model_copy(update={"fabric": address})


def name_from_facts(facts: Facts, otherwise: str, taken: Collection[str]) -> str:
    """A node's name: the machine's host name without its domain, numbered where another node is called that."""
    hostname = str(seen(facts, "system").get("hostname") or otherwise)
    first = hostname if hostname.replace(".", "").isdigit() else hostname.split(".", maxsplit=1)[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", first)[:60].strip("-._") or "node"
    numbered = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(candidate for candidate in numbered if candidate not in taken)


def fastest_common_subnet(nodes: Sequence[Node]) -> list[tuple[Nic, str]] | None:
    """For each node the NIC and address on the subnet that all share; of several, the one with the fastest slowest NIC.

    A fabric address that is already there is kept to. Where two subnets are as fast, the one that RDMA works on counts
    for more, then IPv4, then the first node's order.
    """
    candidates: list[list[tuple[Nic, str]]] = []
    for nic, address in _addresses(nodes[0]):
        way = [(nic, str(address.ip))]
        for node in nodes[1:]:
            there = [(other, str(own.ip)) for other, own in _addresses(node) if own.network == address.network]
            if there:
                way.append(max(there, key=lambda pair: pair[0].speed or _UNKNOWN_SPEED))
        kept = all(node.fabric in {None, ip} for node, (_, ip) in zip(nodes, way, strict=False))
        if kept and len({ip for _, ip in way}) == len(nodes):
            candidates.append(way)
    return max(candidates, key=_worth, default=None)


def _worth(way: list[tuple[Nic, str]]) -> tuple[int, bool, bool]:
    slowest = min(nic.speed or _UNKNOWN_SPEED for nic, _ in way)
    return slowest, all(nic.rdma for nic, _ in way), ":" not in way[0][1]


def _addresses(node: Node) -> list[tuple[Nic, IPv4Interface | IPv6Interface]]:
    pairs = [(nic, text) for nic in node.nics if not _NOT_FABRIC.match(nic.name) for text in nic.addresses]
    read = [(nic, ip_interface(text)) for nic, text in pairs]
    return [(nic, address) for nic, address in read if not address.is_loopback and not address.is_link_local]


def _reachable(node: Node) -> Node:
    """A local node with an address that others may know it by: its fastest NIC's."""
    own = _addresses(node)
    if not node.is_local or node.fabric is not None or not own:
        return node
    _, address = max(own, key=lambda pair: pair[0].speed or _UNKNOWN_SPEED)
    return node.model_copy(update={"fabric": str(address.ip)})


def _links(nodes: Sequence[Node], nics: Sequence[Nic]) -> tuple[Link, ...]:
    """One link among the nodes at the speed of the slowest NIC; none where a NIC does not tell its speed."""
    speeds = [nic.speed for nic in nics if nic.speed]
    if len(speeds) < len(nics):
        return ()
    kind = nearest_link(min(speeds), rdma=all(nic.rdma for nic in nics))
    return (
        Link(between=tuple(node.name for node in nodes), switch="switch" if len(nodes) > 2 else None, kind=kind.id),
    )


def _mapping(value: object) -> Facts:
    return cast("Facts", value) if isinstance(value, dict) else {}


def _rows(facts: Facts, part: str) -> list[dict[str, Any]]:
    value = facts.get(part)
    return cast("list[dict[str, Any]]", value) if isinstance(value, list) else []


def _tidy(size: int) -> int:
    """Bytes rounded down to a tenth of a GiB where that loses little: a file says 119.7 GiB, not 125484032 KiB."""
    return round(size // _TENTH / 10 * GIB) if size >= GIB else size
