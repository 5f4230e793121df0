"""Which layouts a model and an engine allow, the simplest first; knows no memory."""

from collections.abc import Iterator

from corral.engines.base import Layout
from corral.errors import BadInput
from corral.models.values import ModelFacts
from corral.planner.values import Demand, NodeResources


def require_divisible(model: ModelFacts, layout: Layout) -> None:
    """Raise BadInput when the model's heads or layers cannot be split so."""
    if not _splits_heads(model, layout.tp):
        degrees = ", ".join(str(tp) for tp in range(1, min(model.heads, 64) + 1) if _splits_heads(model, tp))
        raise BadInput(
            f"{model.name} has {model.heads} attention heads and {model.kv_heads} KV heads; they cannot be split"
            f" {layout.tp} ways.",
            f"Choose a tensor-parallel degree of {degrees}.",
        )
    if layout.pp > model.layers:
        raise BadInput(
            f"{model.name} has {model.layers} layers; they cannot make {layout.pp} pipeline stages.",
            f"Choose a pipeline degree of at most {model.layers}.",
        )


def candidates(demand: Demand) -> Iterator[tuple[Layout, tuple[NodeResources, ...]]]:
    """Layouts with the nodes to try each on: one device, more of one node, more nodes; or the wanted one alone."""
    if demand.layout is not None:
        yield demand.layout, demand.nodes
        return
    for layout, nodes in _unchecked(demand):
        if _splits_heads(demand.model, layout.tp) and layout.pp <= demand.model.layers:
            yield layout, nodes


def _unchecked(demand: Demand) -> Iterator[tuple[Layout, tuple[NodeResources, ...]]]:
    """llama.cpp splits by layers only; others split tensors within a node and layers over nodes."""
    by_layers = demand.engine == "llamacpp"
    for node in demand.nodes:
        for count in range(1, node.devices + 1):
            yield Layout(pp=count) if by_layers else Layout(tp=count), (node,)
    by_memory = sorted(demand.nodes, key=lambda node: -node.device_memory * node.devices)
    for count in range(2, len(demand.nodes) + 1):
        largest = {node.name for node in by_memory[:count]}
        nodes = [node for node in demand.nodes if node.name in largest]
        for each in range(1, min(node.devices for node in nodes) + 1):
            # Only so many devices of each node are offered, so that the ranks spread evenly over the nodes.
            offered = tuple(node.model_copy(update={"devices": each}) for node in nodes)
            yield Layout(pp=count * each) if by_layers else Layout(tp=each, pp=count), offered


def _splits_heads(model: ModelFacts, tp: int) -> bool:
    """Whole heads on every rank; KV heads are either split evenly or held by several ranks each."""
    kv_heads = max(1, model.kv_heads)
    return model.heads % tp == 0 and (kv_heads % tp == 0 or tp % kv_heads == 0)
