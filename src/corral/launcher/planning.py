"""Turns a request and what the nodes said into a placement: which engine, which layout, which seats; starts nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from corral.cluster.topology import machine_of
from corral.cluster.values import Cluster
from corral.engines.base import Engine, ExistingEnvironment, Layout, Placement
from corral.engines.registry import engine_named
from corral.errors import BadInput, CorralError, DoesNotFit
from corral.launcher.node import NodeFacts
from corral.launcher.rooms import Held, holdings, offered_part, rooms
from corral.models.values import ModelFacts
from corral.planner.layout import choose, parse_layout
from corral.planner.search.preference import Preferred, preferred
from corral.planner.values import Accelerator, Choice, NodeResources
from corral.store.values import DeploymentRequest, Holding

# Requests of this many tokens are made room for unless the user says otherwise: a long chat; the whole context of a
# large model would fill the memory for a use that nobody asked for.
DEFAULT_CONTEXT: Final = 8192
ACCELERATORS: Final[dict[str, Accelerator]] = {"nvidia": "cuda", "amd": "rocm", "apple": "metal"}


def engine_for(request: DeploymentRequest, model_format: str) -> Engine:
    """The engine that was named, or the one that reads this format."""
    return engine_named(request.engine or ("llamacpp" if model_format == "gguf" else "vllm"))


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a deployment goes, what it takes there, and how fast it should be (0: not known)."""

    placement: Placement
    holds: tuple[Holding, ...]
    prefill_rate: float = 0.0  # prompt tokens a second
    decode_rate: float = 0.0  # tokens a second of one stream


def place(
    request: DeploymentRequest,
    model: ModelFacts,
    facts: Mapping[str, NodeFacts],
    identity: str,
    held: Mapping[str, Held] | None = None,
    *,
    quick: bool = False,
) -> Placed:
    """Choose seats beside what others hold (by machine) and check them against the engine.

    `quick`: the first layout that fits will do, to know whether one does. DoesNotFit and BadInput say what would do.
    """
    engine = engine_for(request, model.format)
    context = request.context or min(model.context, DEFAULT_CONTEXT)
    if context > model.context:
        raise BadInput(
            f"{model.name} was made for contexts of up to {model.context} tokens, {context} were asked for.",
            f"Ask for --context {model.context} or less.",
        )
    accelerator = accelerator_of(request.cluster)
    # A node without the others' accelerators (a laptop beside a rig) takes no rank of them.
    useful = [node for node in request.cluster.nodes if accelerator == "cpu" or node.devices]
    machines = {machine_of(node) for node in useful}
    held = {machine: some for machine, some in (held or {}).items() if machine in machines}
    trial = _Trial(request, model, engine, accelerator, context, identity, beside=bool(held), quick=quick)
    refusal: CorralError | None = None
    for offered in rooms(useful, facts, accelerator, held, engine=engine.name):
        try:
            return trial.on(offered)
        except DoesNotFit as error:
            refusal = error  # the last way offers the most devices
    assert refusal is not None  # noqa: S101 - there is one way at least
    raise _beside_others(refusal) if held else refusal


@dataclass(frozen=True, slots=True)
class _Trial:
    """A model that is to be placed on nodes, as they are offered."""

    request: DeploymentRequest
    model: ModelFacts
    engine: Engine
    accelerator: Accelerator
    context: int
    identity: str
    beside: bool  # whether others hold something
    quick: bool

    def on(self, offered: Sequence[NodeResources]) -> Placed:
        """The layout that was named, or the fastest, or the first that fits."""
        if self.request.layout:
            return self._placed(parse_layout(self.request.layout), offered)
        if self.quick:
            return self._placed(None, offered)
        cluster = offered_part(self.request.cluster, offered) if self.beside else self.request.cluster
        best = _fastest(self.request, cluster, self.model, self.accelerator, self.engine.name, self.context)
        if best is not None:
            by_name = {node.name: node for node in offered}
            # By the catalog's figures it fits; should the machines have less to give now, what fits first does.
            with suppress(CorralError):
                placed = self._placed(best.layout, [by_name[name] for name in best.nodes])
                return replace(placed, prefill_rate=best.prefill, decode_rate=best.decode)
        return self._placed(None, offered)

    def _placed(self, layout: Layout | None, nodes: Sequence[NodeResources]) -> Placed:
        request, engine = self.request, self.engine
        chosen = choose(
            self.model,
            nodes,
            engine=engine.name,
            layout=layout,
            context=self.context,
            concurrency=request.concurrency,
            dtype=request.dtype,
        )
        placement = Placement(
            deployment=self.identity,
            model=self.model,
            served_name=request.public,
            layout=chosen.layout,
            seats=chosen.seats,
            accelerator=self.accelerator,
            context=self.context,
            concurrency=request.concurrency,
            dtype=request.dtype,
            layers=chosen.layers,
            kv_bytes=_cache_bytes(engine.name, self.accelerator, chosen) if self.model.anatomy else None,
            threads=request.threads,
            variant=request.variant,
        )
        engine.check(placement)
        return Placed(placement, holdings(request.cluster, placement, chosen.memory, nodes, engine=engine.name))


def _beside_others(refusal: CorralError) -> DoesNotFit:
    """The same, where others hold memory that it could have."""
    return DoesNotFit(f"{refusal.cause} Other deployments hold the rest.", refusal.remedy)


def _fastest(
    request: DeploymentRequest,
    cluster: Cluster,
    model: ModelFacts,
    accelerator: Accelerator,
    engine: str,
    context: int,
) -> Preferred | None:
    """What `corral plan` would choose; None on CPUs, and where a model's layers or a device are not known."""
    if model.anatomy is None or accelerator == "cpu":
        return None
    return preferred(model, model.anatomy, cluster, engine=engine, context=context, concurrency=request.concurrency)


def _cache_bytes(engine: str, accelerator: Accelerator, chosen: Choice) -> int | None:
    """The size of vLLM's cache on CPUs, where none is set aside: what the fullest rank was planned with."""
    if engine != "vllm" or accelerator != "cpu":
        return None
    return max(rank.cache for rank in chosen.memory)


def accelerator_of(cluster: Cluster) -> Accelerator:
    """What kind of accelerator the cluster's nodes have; one kind in one cluster, for now."""
    kinds: set[Accelerator] = {
        ACCELERATORS.get(device.vendor, "cpu") for node in cluster.nodes for device in node.devices
    } or {"cpu"}
    if len(kinds) > 1:
        raise DoesNotFit(
            f"The cluster's nodes have accelerators of different kinds ({', '.join(sorted(kinds))}); one deployment "
            "cannot span them.",
            "Write a cluster file with the nodes of one kind.",
        )
    return kinds.pop()


def existing_environments(request: DeploymentRequest, engine: str) -> dict[str, ExistingEnvironment]:
    """Environments that the user named in the cluster file, by node."""
    return {
        node.name: ExistingEnvironment(name=engine, path=setting.environment)
        for node in request.cluster.nodes
        if (setting := node.engines.get(engine)) is not None and setting.environment
    }
