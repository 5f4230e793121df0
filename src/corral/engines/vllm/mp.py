"""vLLM without Ray: its own processes on one node, or on several that meet at the first; knows no Ray."""

from collections.abc import Mapping

from corral.engines.base import Placement, PortOpen, Rank, Site
from corral.engines.vllm.flags import api_flags, serve_flags
from corral.engines.vllm.node_env import node_env


def ports(placement: Placement) -> dict[str, tuple[str, ...]]:
    """The API's port, and over several nodes the port where ranks meet, both on the first node."""
    head, *others = placement.nodes
    return {head: ("api", "master") if others else ("api",), **dict.fromkeys(others, ())}


def ranks(placement: Placement, sites: Mapping[str, Site]) -> tuple[Rank, ...]:
    """The server, and a headless process on each other node; all start at once and wait for one another."""
    head, *others = placement.nodes
    port = sites[head].ports["api"]
    server = Rank(
        name="server",
        node=head,
        argv=_argv(placement, sites, 0, api_flags(port)),
        env=node_env(placement, sites[head]),
        ready=PortOpen(address="127.0.0.1", port=port),
    )
    followers = tuple(
        Rank(
            name=f"rank-{number}",
            node=node,
            argv=_argv(placement, sites, number, ("--headless",)),
            env=node_env(placement, sites[node]),
        )
        for number, node in enumerate(others, start=1)
    )
    return (*followers, server)


def _argv(placement: Placement, sites: Mapping[str, Site], number: int, own: tuple[str, ...]) -> tuple[str, ...]:
    site = sites[placement.nodes[number]]
    return (
        f"{site.environment}/bin/vllm", "serve", site.model,
        *own,
        *serve_flags(placement),
        *_meeting(placement, sites, number),
    )  # fmt: skip


def _meeting(placement: Placement, sites: Mapping[str, Site], number: int) -> tuple[str, ...]:
    """Where the nodes' processes find one another; nothing for a single rank."""
    if placement.layout.ranks == 1:
        return ()
    backend = ("--distributed-executor-backend", "mp")
    if len(placement.nodes) == 1:
        return backend
    head = sites[placement.nodes[0]]
    return (
        *backend,
        "--nnodes", str(len(placement.nodes)),
        "--node-rank", str(number),
        "--master-addr", head.address,
        "--master-port", str(head.ports["master"]),
    )  # fmt: skip
