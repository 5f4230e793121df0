"""What joins two nodes: the cluster file's links as figures the planner can use; knows no device."""

from functools import lru_cache
from itertools import combinations
from typing import Final

from corral.catalog.links import LinkSpec, known_links, link, nearest_link
from corral.cluster.topology import link_between
from corral.cluster.values import Cluster, Link, Node
from corral.units import format_rate

_GIGABIT: Final = 125_000_000  # bytes a second


def wires(cluster: Cluster, nodes: tuple[Node, ...]) -> tuple[dict[tuple[int, int], LinkSpec], tuple[str, ...]]:
    """The link of each pair of these nodes by their indices, and what had to be assumed, in sentences.

    A pair that no link of the file joins is taken to be joined by the slower of the two nodes' fastest NICs, over TCP;
    where the file says nothing of NICs either, by 1 Gb/s Ethernet. A file that names some links means what it says:
    then pairs that are not named are joined by nothing.
    """
    pairs: dict[tuple[int, int], LinkSpec] = {}
    for (i, one), (j, other) in combinations(enumerate(nodes), 2):
        found = link_between(cluster, one.name, other.name)
        if found is not None:
            pairs[i, j] = link_spec(found)
        elif not cluster.links:
            pairs[i, j] = _assumed(one, other)
    if cluster.links or not pairs:
        return pairs, ()
    slowest = min(pairs.values(), key=lambda spec: spec.line_rate)
    return pairs, (f"The cluster file names no links: {format_rate(slowest.line_rate)} Ethernet is assumed.",)


def link_spec(written: Link) -> LinkSpec:
    """The catalog's figures of a link's kind, with the bandwidth and latency that were measured in their place."""
    return _spec(written.kind, written.bandwidth, written.latency)


@lru_cache(maxsize=256)
def _spec(kind: str | None, bandwidth: int | None, latency: float | None) -> LinkSpec:
    spec = link(kind) if kind is not None else _carrying(bandwidth or 1)
    update: dict[str, object] = {}
    if bandwidth is not None:
        update["bandwidth"] = float(bandwidth)
    if latency is not None:
        update["latency"] = latency
    return spec.model_copy(update=update) if update else spec


# What carries TCP on the same wire, for what cannot do RDMA.
_OVER_TCP: Final = {
    "tb5-rdma": "tb5-tcp", "ib-fdr": "tcp-50g", "ib-edr": "tcp-100g", "ib-hdr": "tcp-200g", "ib-ndr": "tcp-400g",
}  # fmt: skip


def without_rdma(spec: LinkSpec) -> LinkSpec:
    """The same wire for an engine whose ranks talk over TCP alone; no faster than it was measured."""
    if not spec.rdma:
        return spec
    same = link(_OVER_TCP.get(spec.id, spec.id.replace("roce-", "tcp-")))
    if same.bandwidth <= spec.bandwidth:
        return same
    return same.model_copy(update={"bandwidth": spec.bandwidth})


def _carrying(bandwidth: float) -> LinkSpec:
    """The slowest Ethernet over TCP that can carry this."""
    ethernet = sorted(
        (link(name) for name in known_links() if name.startswith("tcp-")), key=lambda spec: spec.line_rate
    )
    return next((spec for spec in ethernet if spec.line_rate >= bandwidth), ethernet[-1])


def _assumed(one: Node, other: Node) -> LinkSpec:
    speeds = [max((nic.speed or 0 for nic in node.nics), default=0) for node in (one, other)]
    return nearest_link(min(speeds) or _GIGABIT, rdma=False)
