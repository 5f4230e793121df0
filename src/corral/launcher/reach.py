"""Opens the way to the nodes of a cluster file; knows what a connection needs, not what is done over it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from corral.cluster.values import Cluster
from corral.cluster.values import Node as ClusterNode
from corral.hosts import Connection, open_host
from corral.launcher.node import CACHE, Node


def connection_of(node: ClusterNode) -> Connection | None:
    """How to connect to a node of the cluster file; None for this machine."""
    if node.is_local:
        return None
    if node.ssh is None:
        return Connection(name=node.name, address=node.address)
    return Connection(
        name=node.name,
        address=node.address,
        user=node.ssh.user,
        port=node.ssh.port,
        key=node.ssh.key,
        known_hosts=node.ssh.known_hosts,
        jump=node.ssh.jump,
    )


@asynccontextmanager
async def reach(cluster: Cluster) -> AsyncGenerator[Mapping[str, Node]]:
    """Give every node of the cluster by name; the connections are made on first use and closed at the end."""
    async with AsyncExitStack() as stack:
        nodes: dict[str, Node] = {}
        for node in cluster.nodes:
            host = open_host(node.name, connection_of(node))
            stack.push_async_callback(host.close)
            nodes[node.name] = Node(
                host, address=node.fabric_address, python=node.python or "python3", cache_folder=node.cache or CACHE
            )
        yield nodes
