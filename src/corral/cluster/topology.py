"""Questions about how a cluster's nodes are joined; knows only what the cluster file says."""

from collections.abc import Iterable
from itertools import combinations

from corral.catalog.links import link as link_spec
from corral.cluster.problems import did_you_mean
from corral.cluster.values import Cluster, Link, Node
from corral.errors import BadInput


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


def machine_of(node: Node) -> str:
    """Which machine a node is, whatever a cluster file calls it: by how it is reached."""
    if node.is_local:
        return "local"
    port = f":{node.ssh.port}" if node.ssh is not None and node.ssh.port is not None else ""
    jump = f" via {node.ssh.jump}" if node.ssh is not None and node.ssh.jump is not None else ""
    return f"{node.address}{port}{jump}"


def part_of(cluster: Cluster, names: Iterable[str]) -> Cluster:
    """The cluster with these nodes alone, in its own order; BadInput when there is no such node."""
    wanted, known = set(names), [node.name for node in cluster.nodes]
    for name in sorted(wanted - set(known)):
        raise BadInput(
            f'The cluster has no node "{name}"{did_you_mean(name, known)}.'.replace("?.", "?"),
            "Name nodes of the cluster file.",
        )
    if not wanted or wanted == set(known):
        return cluster

    def left(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name in wanted)

    return cluster.model_copy(
        update={
            "nodes": tuple(node for node in cluster.nodes if node.name in wanted),
            "links": tuple(
                link.model_copy(update={"between": there})
                for link in cluster.links
                if len(there := left(link.between)) > 1
            ),
            "storage": tuple(
                part.model_copy(update={"nodes": there}) for part in cluster.storage if (there := left(part.nodes))
            ),
            "circuits": tuple(
                part.model_copy(update={"nodes": there}) for part in cluster.circuits if (there := left(part.nodes))
            ),
        }
    )
