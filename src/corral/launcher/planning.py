"""Turns a request and what the nodes said into a placement: which engine, which layout, which seats; starts nothing."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from corral.cluster.values import Cluster
from corral.cluster.values import Node as ClusterNode
from corral.engines.base import Engine, ExistingEnvironment, Layout, Placement
from corral.engines.registry import engine_named
from corral.errors import BadInput, CorralError, DoesNotFit
from corral.launcher.node import NodeFacts
from corral.models.values import ModelFacts
from corral.planner.layout import choose, parse_layout
from corral.planner.search.preference import Preferred, preferred
from corral.planner.values import Accelerator, Choice, NodeResources
from corral.store.values import DeploymentRequest

# Requests of this many tokens are made room for unless the user says otherwise: a long chat; the whole context of a
# large model would fill the memory for a use that nobody asked for.
DEFAULT_CONTEXT: Final = 8192
ACCELERATORS: Final[dict[str, Accelerator]] = {"nvidia": "cuda", "amd": "rocm", "apple": "metal"}


def engine_for(request: DeploymentRequest, model_format: str) -> Engine:
    """The engine that was named, or the one that reads this format."""
    return engine_named(request.engine or ("llamacpp" if model_format == "gguf" else "vllm"))


def place(request: DeploymentRequest, model: ModelFacts, facts: Mapping[str, NodeFacts], identity: str) -> Placement:
    """Choose seats and check them against the engine; DoesNotFit and BadInput say what would do."""
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
    resources = [resources_of(node, facts[node.name], accelerator) for node in useful]

    def placed(layout: Layout | None, nodes: Sequence[NodeResources]) -> Placement:
        chosen = choose(
            model,
            nodes,
            engine=engine.name,
            layout=layout,
            context=context,
            concurrency=request.concurrency,
            dtype=request.dtype,
        )
        placement = Placement(
            deployment=identity,
            model=model,
            served_name=request.name,
            layout=chosen.layout,
            seats=chosen.seats,
            accelerator=accelerator,
            context=context,
            concurrency=request.concurrency,
            dtype=request.dtype,
            layers=chosen.layers,
            kv_bytes=_cache_bytes(engine.name, accelerator, chosen) if model.anatomy else None,
            threads=request.threads,
            variant=request.variant,
        )
        engine.check(placement)
        return placement

    if request.layout:
        return placed(parse_layout(request.layout), resources)
    best = _fastest(request, model, accelerator, engine.name, context)
    if best is not None:
        by_name = {node.name: node for node in resources}
        # By the catalog's figures it fits; should the machines have less to give now, the first layout that fits does.
        with suppress(CorralError):
            return placed(best.layout, [by_name[name] for name in best.nodes])
    return placed(None, resources)


def _fastest(
    request: DeploymentRequest,
    model: ModelFacts,
    accelerator: Accelerator,
    engine: str,
    context: int,
) -> Preferred | None:
    """What `corral plan` would choose; None on CPUs, and where a model's layers or a device are not known."""
    if model.anatomy is None or accelerator == "cpu":
        return None
    return preferred(
        model, model.anatomy, request.cluster, engine=engine, context=context, concurrency=request.concurrency
    )


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


def resources_of(node: ClusterNode, facts: NodeFacts, accelerator: Accelerator) -> NodeResources:
    """What a node offers to a rank: its devices' memory, or its own where there are none or they share it."""
    devices = [device for device in node.devices for _ in range(device.count)]
    if accelerator == "cpu" or not devices:
        return NodeResources(name=node.name, devices=1, device_memory=facts.memory_available, accelerator="cpu")
    memory = min(facts.memory_available if device.unified else device.memory for device in devices)
    return NodeResources(
        name=node.name,
        devices=len(devices),
        device_memory=memory,
        accelerator=accelerator,
        unified=any(device.unified for device in devices),
    )


def existing_environments(request: DeploymentRequest, engine: str) -> dict[str, ExistingEnvironment]:
    """Environments that the user named in the cluster file, by node."""
    return {
        node.name: ExistingEnvironment(name=engine, path=setting.environment)
        for node in request.cluster.nodes
        if (setting := node.engines.get(engine)) is not None and setting.environment
    }
