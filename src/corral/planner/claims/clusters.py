"""Clusters of the claims, made of a few words; knows no file."""

from corral.catalog.devices import device
from corral.cluster.values import Cluster, Device, Link, Node
from corral.planner.claims.values import MadeCluster
from corral.units import parse_rate


def made(name: str, words: MadeCluster) -> Cluster:
    """The cluster that these words describe."""
    spec = device(words.device)
    vendor = "nvidia" if spec.vendor == "arm" else spec.vendor
    devices = tuple(
        Device(
            name=words.device,
            vendor=vendor,
            count=count,
            memory=spec.memory,
            unified=spec.unified,
            power_limit=words.limit,
            link=words.joined,
        )
        for count in words.domains
    )
    nodes = tuple(
        Node(
            name=f"node{number}",
            address=f"10.0.0.{number}",
            devices=devices,
            power_base=words.base,
        )
        for number in range(1, words.nodes + 1)
    )
    return Cluster(name=name, nodes=nodes, links=_links(words, nodes))


def _links(words: MadeCluster, nodes: tuple[Node, ...]) -> tuple[Link, ...]:
    if words.link is None or len(nodes) < 2:
        return ()
    measured = parse_rate(words.bandwidth) if words.bandwidth is not None else None
    names = tuple(node.name for node in nodes)
    return (Link(between=names, switch=words.switch or "switch", kind=words.link, bandwidth=measured),)
