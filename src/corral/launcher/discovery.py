"""Asks machines what they are, all at once, and makes a Cluster of their answers; knows no file and no table."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, cast

from pydantic import ValidationError

from corral.cluster.from_facts import cluster_from_nodes, name_from_facts, node_from_facts, not_seen
from corral.cluster.values import Cluster, Node
from corral.errors import BadInput, CorralError, NodeFailed
from corral.hosts.base import Host
from corral.hosts.local import Local
from corral.hosts.python import run_script

LIMIT_SECONDS: Final = 2.5
# nvidia-smi wakes every GPU first where nothing keeps the driver loaded; eight of them take about ten seconds.
PATIENT_SECONDS: Final = 20.0
_REACH_SECONDS: Final = 25.0


@dataclass(frozen=True, slots=True)
class Discovered:
    """What came of asking: the cluster of those that answered, what stayed unseen by node and part, who failed how."""

    cluster: Cluster | None
    not_seen: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    failures: Mapping[str, CorralError] = field(default_factory=dict[str, CorralError])


@dataclass(frozen=True, slots=True)
class Asked:
    """A machine to ask: what is known of it (name, address, ssh), the way to it, and whether its name is settled."""

    node: Node
    host: Host
    named: bool = True  # else it gets its host name


async def discover(asked: Sequence[Asked], *, name: str = "corral") -> Discovered:
    """Ask every machine at once.

    One that is dead or slow delays no answer beyond its own deadline and is a failure by name, not an error.
    """
    answers = await asyncio.gather(*(probe(one.node, one.host) for one in asked), return_exceptions=True)
    nodes: list[Node] = []
    unseen: dict[str, Mapping[str, str]] = {}
    failures: dict[str, CorralError] = {}
    taken = {one.node.name for one in asked if one.named}
    for one, answer in zip(asked, answers, strict=True):
        if isinstance(answer, CorralError):
            failures[one.node.name] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            called = one.node.name if one.named else name_from_facts(answer, one.node.name, taken)
            try:
                nodes.append(node_from_facts(one.node.model_copy(update={"name": called}), answer))
            except ValidationError as error:
                failures[one.node.name] = _strange(one.node.name, error)
                continue
            taken.add(called)
            unseen |= {called: missed} if (missed := not_seen(answer)) else {}
    return Discovered(_joined(nodes, name), unseen, failures)


async def this_machine() -> Cluster:
    """The cluster of someone who wrote no file: this machine alone, as it says of itself."""
    host = Local("local")
    found = await discover([Asked(Node(name="local", address="local"), host, named=False)], name="this-machine")
    for failure in found.failures.values():
        raise failure
    assert found.cluster is not None  # noqa: S101 - one machine was asked and did not fail
    return found.cluster


def _joined(nodes: Sequence[Node], name: str) -> Cluster | None:
    try:
        return cluster_from_nodes(nodes, name) if nodes else None
    except ValidationError as error:
        cause = f"The machines that answered make no cluster: {error.errors()[0]['msg']}."
        raise BadInput(cause, "Name each machine once; where this one is among them, name it by its address.") from None


def _strange(node: str, error: ValidationError) -> NodeFailed:
    first = error.errors()[0]
    where = ".".join(str(step) for step in first["loc"])
    cause = f"Node {node} says something of itself that cannot be: {where}: {first['msg']} ({first['input']!r:.80})."
    return NodeFailed(node, cause, "Write that node into the cluster file by hand; docs/cluster-file.md says how.")


async def probe(node: Node, host: Host) -> dict[str, Any]:
    """The facts of one machine. NodeFailed when it cannot be reached in time or its answer makes no sense."""
    facts = await _ask(node, host, LIMIT_SECONDS)
    if any("took longer" in why for why in not_seen(facts).values()):
        facts = await _ask(node, host, PATIENT_SECONDS)
    return facts


async def _ask(node: Node, host: Host, limit: float) -> dict[str, Any]:
    python = node.python or "python3"
    source = files("corral.probes").joinpath("facts.py").read_text(encoding="utf-8")
    try:
        async with asyncio.timeout(limit + _REACH_SECONDS):
            done = await run_script(
                host, source, args=("--limit", str(limit)), python=python, timeout=limit + _REACH_SECONDS
            )
    except TimeoutError:
        cause = f"Node {node.name} did not answer within {limit + _REACH_SECONDS:.0f} s."
        raise NodeFailed(node.name, cause, f"See whether `ssh {node.address}` gives a shell there.") from None
    return _facts(node, done.stdout, done.stderr, done.status)


def _facts(node: Node, stdout: bytes, stderr: bytes, status: int) -> dict[str, Any]:
    """The JSON in what the probe printed; a login script may have printed something before it."""
    for line in reversed(stdout.splitlines()):
        try:
            facts = json.loads(line)
        except ValueError:
            continue
        if isinstance(facts, dict) and cast("dict[str, Any]", facts).get("schema") == "corral.facts/1":
            return cast("dict[str, Any]", facts)
    said = (stderr or stdout).decode(errors="replace").strip().splitlines() or ["it printed nothing"]
    raise NodeFailed(
        node.name,
        f"Node {node.name} could not be looked at (status {status}): {said[-1][:200]}.",
        f"Try `{node.python or 'python3'} --version` there: Python 3.8 or later is needed.",
    )
