"""Questions about how a cluster's nodes are joined; knows only what the cluster file says."""

from collections.abc import Iterable
from itertools import combinations

from corral.catalog.links import link as link_spec
from corral.cluster.values import Cluster, Link


def bandwidth_of(link: Link) -> int:
    """Bytes a second in one direction: as measured, else as the catalog says of its kind."""
    if link.bandwidth is not None:
        return link.bandwidth
    return int(link_spec(link.kind).bandwidth) if link.kind is not None else 0


def link_between(cluster: Cluster, one: str, other: str) -> Link | None:
    """The fastest link that joins two nodes directly; None when the file names none."""
    joined = [link for link in cluster.links if one in link.between and other in link.between]
    return max(joined, key=bandwidth_of, default=None)


def slowest_link(cluster: Cluster, names: Iterable[str]) -> Link | None:
    """The link that a collective over these nodes waits for; None when some pair has no known link, or for one node."""
    links = [link_between(cluster, one, other) for one, other in combinations(sorted(set(names)), 2)]
    known = [link for link in links if link is not None]
    return min(known, key=bandwidth_of) if known and len(known) == len(links) else None
