"""All that comes before the first rank starts: nodes, model, plan, environments, files, commands; starts no rank."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from corral.engines.base import Engine, LaunchSpec, Placement, Site
from corral.errors import BadInput
from corral.launcher.environments import Report, ensure_all
from corral.launcher.ledger import Ledger
from corral.launcher.modelfiles import place_all
from corral.launcher.modelsource import obtain
from corral.launcher.node import CACHE, Node, NodeFacts, RankRecord
from corral.launcher.planning import Placed, engine_for, existing_environments, place
from corral.launcher.race import together
from corral.store.values import DeploymentRequest


@dataclass(frozen=True, slots=True)
class Prepared:
    """A launch that is ready to start."""

    engine: Engine
    placed: Placed
    spec: LaunchSpec
    records: Mapping[str, RankRecord]  # by node

    @property
    def placement(self) -> Placement:
        """Where its ranks sit."""
        return self.placed.placement


async def prepare(
    request: DeploymentRequest, nodes: Mapping[str, Node], report: Report, ledger: Ledger | None = None
) -> Prepared:
    """Go through the stages before the start; CorralError names the one that failed, and nothing runs then.

    Where it is placed is entered into the ledger in the same moment, so that no other launch takes the same memory.
    """
    ledger = ledger or Ledger()
    facts = await look(nodes, report)
    model = await obtain(request, cache_here(nodes, facts), report)
    identity = identity_of(request.name, secrets.token_hex(4))
    placed = place(request, model, facts, identity, ledger.others(request.name, request.public))
    ledger.take(request.name, request.public, placed.holds)
    placement = placed.placement
    engine = engine_for(request, model.format)
    report("plan", f"{engine.name}, {placement.layout} on {', '.join(placement.nodes)}", fraction=1.0)
    named = existing_environments(request, engine.name)
    wanted = {node: named.get(node, made) for node, made in engine.environments(placement).items()}
    folders = await ensure_all(wanted, nodes, facts, report)
    paths = await place_all(model, engine.model_readers(placement), nodes, facts, report)
    secret = secrets.token_hex(16)
    sites = {
        name: await site_of(
            name, placement, engine, nodes[name], facts[name], folders[name], paths.get(name, ""), secret
        )
        for name in placement.nodes
    }
    records = {name: record_of(placement.deployment, name, facts[name]) for name in placement.nodes}
    spec = engine.launch(placement, sites)
    for number, note in enumerate(spec.notes, start=1):
        report("note", note, fraction=1.0, subject=str(number))
    return Prepared(engine=engine, placed=placed, spec=spec, records=records)


def cache_here(nodes: Mapping[str, Node], facts: Mapping[str, NodeFacts]) -> str:
    """The cache of this machine: as the cluster file says where this is one of its nodes."""
    return next(
        (facts[name].cache for name, node in nodes.items() if node.host.is_local), str(Path(CACHE).expanduser())
    )


def identity_of(name: str, suffix: str) -> str:
    """A name of one launch that is fit for folders and environment variables: [a-z0-9-]{1,48}."""
    return f"{re.sub('[^a-z0-9]+', '-', name.lower())[:32].strip('-')}-{suffix}"


async def look(nodes: Mapping[str, Node], report: Report) -> dict[str, NodeFacts]:
    """Ask every node at once what it is."""

    async def describe(node: Node) -> NodeFacts:
        report("nodes", "reaching it", subject=node.name)
        facts = await node.describe()
        report("nodes", f"{facts.host_name}, Python {facts.python_version}", fraction=1.0, subject=node.name)
        return facts

    return await together({name: describe(node) for name, node in nodes.items()})


async def site_of(
    name: str,
    placement: Placement,
    engine: Engine,
    node: Node,
    facts: NodeFacts,
    environment: str,
    model: str,
    secret: str,
) -> Site:
    """Gather what the engine must know of one node, free ports included."""
    alone = len(placement.nodes) == 1
    address = "127.0.0.1" if alone else node.address
    interface = "lo" if alone else facts.interface
    if not interface:
        raise BadInput(
            f"No network interface of {name} carries {address}, the address where its ranks would be reached.",
            f"Give `fabric` of {name} in the cluster file an address that `ip addr` shows there.",
        )
    return Site(
        node=name,
        address=address,
        interface=interface,
        environment=environment,
        scratch=record_of(placement.deployment, name, facts).scratch,
        cache=facts.cache,
        model=model,
        ports=await node.ports(engine.ports(placement).get(name, ()), address),
        cores=facts.cores,
        memory=facts.memory_available,
        secret=secret,
    )


def record_of(identity: str, name: str, facts: NodeFacts) -> RankRecord:
    """Where the ranks of a launch keep their records on a node. The scratch path is short: sockets are made in it."""
    return RankRecord(
        run=f"{facts.cache}/run/{identity}-{name}",  # nodes may share a home
        scratch=f"/tmp/corral-{identity[-8:]}",  # noqa: S108 - made on the node as a folder of its own, mode 0700
        marks={"CORRAL_DEPLOYMENT": identity, "CORRAL_NODE": name},
    )
