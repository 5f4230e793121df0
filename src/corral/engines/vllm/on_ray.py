"""vLLM on Ray: one Ray node on each machine, then the server on the first; knows Ray's ports and vLLM's Ray executor.

Ray is started here for one deployment and stopped with it; a Ray that somebody else runs on the machine is never met,
because every port, folder and the token are the deployment's own.
"""

from collections.abc import Mapping
from typing import Final

from corral.engines.base import LogLine, Placement, PortOpen, Rank, Site
from corral.engines.vllm.flags import api_flags, serve_flags
from corral.engines.vllm.node_env import node_env
from corral.engines.vllm.variant import seats_on
from corral.errors import BadInput

# Port names, each the option of `ray start` that takes it. Left alone, Ray draws worker ports from 10002-19999.
NODE_PORTS: Final = {
    "ray-node-manager": "--node-manager-port",
    "ray-object-manager": "--object-manager-port",
    "ray-agent-grpc": "--dashboard-agent-grpc-port",
    "ray-agent-http": "--dashboard-agent-listen-port",
    "ray-runtime-env": "--runtime-env-agent-port",
    "ray-metrics": "--metrics-export-port",
}
HEAD_PORTS: Final = {"ray-gcs": "--port", "ray-client": "--ray-client-server-port"}
# Every process that Ray starts for a job takes one: the ranks, their helpers, and those that are being replaced.
WORKER_PORTS: Final = 64
# Ray adds "/ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store" to the scratch folder's path, and a
# socket's path has at most 107 characters on Linux (ray/_private/utils.py, validate_socket_filepath).
SOCKET_PATH_LIMIT: Final = 107
SOCKET_PATH_SUFFIX: Final = len("/ray/session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store")
# vLLM's ranks pass nothing through Ray's object store; by default it would take 30 % of the machine's memory.
OBJECT_STORE_BYTES: Final = 128 * 1024**2


def ports(placement: Placement) -> dict[str, tuple[str, ...]]:
    """The ports of Ray on each node; the first has those of the head and of the API too."""
    workers = f"block:{WORKER_PORTS}:ray-workers"
    head, *others = placement.nodes
    return {
        head: ("api", *HEAD_PORTS, *NODE_PORTS, workers),
        **dict.fromkeys(others, (*NODE_PORTS, workers)),
    }


def ranks(placement: Placement, sites: Mapping[str, Site]) -> tuple[Rank, ...]:
    """The head of Ray, the other nodes of Ray, and the server, each waiting for those before it."""
    head, *others = placement.nodes
    address = f"{sites[head].address}:{sites[head].ports['ray-gcs']}"
    head_rank = _ray_node("ray-head", placement, sites[head], _head_options(sites[head]))
    other_ranks = tuple(
        _ray_node(f"ray-{number}", placement, sites[node], ("--address", address), after=("ray-head",))
        for number, node in enumerate(others, start=1)
    )
    started = (head_rank, *other_ranks)
    return (*started, _server(placement, sites[head], address, after=tuple(rank.name for rank in started)))


def _head_options(site: Site) -> tuple[str, ...]:
    # No dashboard and no autoscaler's monitor: nothing of Corral asks them, the first takes 150 MB, the second shows
    # its figures to every network, and a door that is not there needs no lock.
    fixed = [word for name, option in HEAD_PORTS.items() for word in (option, str(site.ports[name]))]
    return ("--head", "--include-dashboard", "false", "--no-monitor", *fixed)


def _ray_node(
    name: str, placement: Placement, site: Site, options: tuple[str, ...], after: tuple[str, ...] = ()
) -> Rank:
    if len(site.scratch) + SOCKET_PATH_SUFFIX > SOCKET_PATH_LIMIT:
        raise BadInput(
            f"The scratch folder {site.scratch} on {site.node} is {len(site.scratch)} characters long; sockets of Ray "
            f"in it need a path of {SOCKET_PATH_LIMIT - SOCKET_PATH_SUFFIX} or fewer.",
            "Give that node a shorter scratch folder, such as one in /tmp.",
        )
    workers = site.ports["ray-workers"]
    return Rank(
        name=name,
        node=site.node,
        argv=(
            f"{site.environment}/bin/ray", "start", *options, "--block",
            "--node-ip-address", site.address,
            *[word for port, option in NODE_PORTS.items() for word in (option, str(site.ports[port]))],
            "--min-worker-port", str(workers),
            "--max-worker-port", str(workers + WORKER_PORTS - 1),
            # A seat is one unit of "GPU", on CPU nodes too (see cpu_plugin); tasks of Ray's own there are none.
            "--num-gpus", str(seats_on(placement, site.node)),
            "--num-cpus", "1",
            "--object-store-memory", str(OBJECT_STORE_BYTES),
            "--temp-dir", f"{site.scratch}/ray",
            "--log-color", "false",
        ),
        env=_env(placement, site),
        after=after,
        ready=LogLine(pattern=r"Ray runtime started"),
    )  # fmt: skip


def _server(placement: Placement, site: Site, address: str, after: tuple[str, ...]) -> Rank:
    port = site.ports["api"]
    return Rank(
        name="server",
        node=site.node,
        argv=(
            f"{site.environment}/bin/vllm", "serve", site.model,
            *api_flags(port),
            *serve_flags(placement),
            "--distributed-executor-backend", "ray",
        ),
        env=_env(placement, site) | {"RAY_ADDRESS": address},
        after=after,
        ready=PortOpen(address="127.0.0.1", port=port),
    )  # fmt: skip


def _env(placement: Placement, site: Site) -> dict[str, str]:
    env = node_env(placement, site) | {
        "RAY_USAGE_STATS_ENABLED": "0",
        # A node that is told to end does so; Ray Serve, which would first move its replicas for 30 s, is not here.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        # A worker's log line is told as it is, not as "repeated 3x across cluster".
        "RAY_DEDUP_LOGS": "0",
        "RAY_COLOR_PREFIX": "0",
        # Nodes whose Pythons differ in the last number only (3.11.2 and 3.11.7) understand one another.
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
    }
    if site.secret:
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": site.secret}
    if placement.accelerator != "cpu":
        # Where accelerators use the machine's own memory the engine fills it on purpose, and Ray's memory monitor
        # would end a rank at 95 %.
        env["RAY_memory_monitor_refresh_ms"] = "0"
    return env
