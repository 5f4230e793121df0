"""Bytes by rank for a model on a layout: weights, KV cache, the engine's own; knows no node and no process.

An upper bound in two respects: every request in flight is given its full context, and layers that attend to a window
only are counted as if they kept everything. Not counted: the copies of norms on each tensor-parallel rank, far below
one per cent of the weights.
"""

from typing import Final

from corral.engines.base import Layout
from corral.models.values import ModelFacts
from corral.planner.memory.shares import stage_layers
from corral.planner.values import Accelerator, RankMemory
from corral.units import MIB

# What an engine takes besides weights and KV cache: on each rank, and once more on the first. On CPU measured with a
# tiny model on Linux, resident: vLLM's worker 1.7 GB, its engine core and API server 0.6 GB each. On an accelerator
# estimated: driver context, activations of one batch, captured graphs.
_OVERHEAD: Final = {
    ("vllm", "cpu"): (1700 * MIB, 1200 * MIB),
    ("vllm", "device"): (2560 * MIB, 0),
    ("llamacpp", "cpu"): (256 * MIB, 128 * MIB),
    ("llamacpp", "device"): (768 * MIB, 0),
}


def facts_memory(
    model: ModelFacts,
    layout: Layout,
    *,
    engine: str,
    accelerator: Accelerator,
    context: int,
    concurrency: int,
    dtype: str | None = None,
) -> tuple[RankMemory, ...]:
    """What each rank takes in bytes, in rank order: stage by stage, and within a stage by tensor-parallel rank."""
    each, first = _OVERHEAD[engine, "cpu" if accelerator == "cpu" else "device"]
    stages = stage_layers(model.layers, layout.pp)
    tokens = context * concurrency
    token_bytes = model.kv_values_per_token * kv_value_bytes(model, engine, dtype)
    ranks: list[RankMemory] = []
    for stage, layers in enumerate(stages):
        weights = stage_weights(model, layout, stage, layers)
        kv = -(-tokens * token_bytes * layers // (model.layers * kv_share(model, layout)))
        ranks += [
            RankMemory(by_class={"all": weights}, kv=kv, framework=each + (0 if stage or rank else first))
            for rank in range(layout.tp)
        ]
    return tuple(ranks)


def kv_share(model: ModelFacts, layout: Layout) -> int:
    """By how much tensor parallelism divides the KV cache: by whole KV heads, never below one a rank."""
    return max(1, min(layout.tp, model.kv_heads))


def kv_value_bytes(model: ModelFacts, engine: str, dtype: str | None) -> int:
    """Bytes of one value in the KV cache: llama.cpp keeps float16 unless told, vLLM the model's own type."""
    kept = dtype or ("float16" if engine == "llamacpp" else model.quantization)
    return 4 if kept == "float32" else 2


def stage_weights(model: ModelFacts, layout: Layout, stage: int, layers: int) -> int:
    """Weight bytes of one rank of a stage: its share of the layers, the embedding, the head, and its replicas.

    Embedding and head are split over the stage's ranks as the layers are. Two things are held more than once: a tied
    embedding, by the first and the last of several stages; key and value projections, when there are fewer KV heads
    than ranks.
    """
    blocks = max(0, model.weights_bytes - model.embedding_bytes - model.head_bytes)
    share = -(-blocks * layers // model.layers)
    if stage == 0:
        share += model.embedding_bytes
    if stage == layout.pp - 1:
        share += model.head_bytes or (model.embedding_bytes if layout.pp > 1 else 0)
    return -(-share // layout.tp) + _kv_projection_replica(model, layout, layers)


def _kv_projection_replica(model: ModelFacts, layout: Layout, layers: int) -> int:
    """Bytes that each rank holds beyond its even share because KV heads cannot be split further."""
    if layout.tp <= model.kv_heads or not model.parameters:
        return 0
    projections = model.hidden * 2 * model.kv_heads * model.head_dim * layers * model.weights_bytes // model.parameters
    return projections // kv_share(model, layout) - projections // layout.tp
