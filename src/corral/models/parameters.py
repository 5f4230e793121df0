"""Counts a model's parameters by tensor class, block by block; knows no format and no split.

The counts are those of the families' reference implementations (the PyPI package transformers, which makes the tensors
that config.json describes), to the last scalar.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, TypeAlias

from corral.models.architecture import Attention, Block, Experts, LatentAttention, Mlp, ModelArchitecture

# `norm` holds what is small and whole on every rank: norms, scalars, and what a block has besides (`Block.extra`);
# `embedding` the token embedding and other tables that are looked up; `draft` and `vision` everything of theirs.
TensorClass: TypeAlias = Literal[
    "embedding", "head", "attention", "recurrent", "mlp", "experts", "shared", "router", "norm", "draft", "vision"
]


def block_parameters(block: Block, hidden: int) -> Mapping[TensorClass, int]:
    """Parameters of one layer of this kind. `experts` counts all routed experts, `shared` shared ones.

    The projections into and out of a latent that the routed experts work in count as `shared`: every token uses them.
    """
    counts: Counter[TensorClass] = Counter({"norm": block.norms * hidden + block.extra})
    match block.mixer:
        case Attention() as attention:
            counts["attention"] += _attention(attention, hidden)
            counts["norm"] += (
                attention.head_dim if attention.shares_kv else 2 * attention.head_dim
            ) * attention.qk_norm
        case LatentAttention() as latent:
            counts["attention"] += _latent(latent, hidden)
            counts["norm"] += latent.q_rank + _cached(latent) + 2 * latent.index_dim * bool(latent.index_heads)
        case None:
            pass
        case recurrent:
            counts["recurrent"] += recurrent.parameters
    match block.feed_forward:
        case Mlp() as mlp:
            counts["mlp"] += _mlp(hidden, mlp.width, gated=mlp.gated, bias=mlp.bias)
        case Experts() as experts:
            counts.update(_experts(experts, hidden))
        case None:
            pass
    return {kind: count for kind, count in counts.items() if count}


def parameters(model: ModelArchitecture) -> Mapping[TensorClass, int]:
    """Parameters of the whole model by class. A tied head counts once, as embedding."""
    counts: Counter[TensorClass] = Counter()
    table = model.vocabulary * model.hidden
    counts["embedding"] = table + model.extra
    counts["head"] = 0 if model.tied else table
    counts["norm"] = model.hidden
    for index, times in Counter(model.order).items():
        for kind, count in block_parameters(model.blocks[index], model.hidden).items():
            counts[kind] += count * times
    counts["draft"] = model.draft_extra + sum(
        sum(block_parameters(block, model.hidden).values()) for block in model.draft
    )
    counts["vision"] = model.vision
    return {kind: count for kind, count in counts.items() if count}


def active_parameters(model: ModelArchitecture) -> int:
    """Parameters that one generated token uses: all but the experts not chosen; a tied embedding counts once.

    Towers and drafts are not the language model's, and do not count. Of an embedding that is only looked up a token
    uses one row, yet makers count the whole table: so does this.
    """
    counts = parameters(model)
    idle = sum(
        _idle(model.blocks[index].feed_forward, model.hidden) * times for index, times in Counter(model.order).items()
    )
    return sum(counts.values()) - counts.get("draft", 0) - counts.get("vision", 0) - idle


def _attention(attention: Attention, hidden: int) -> int:
    query = attention.heads * attention.head_dim * (2 if attention.gated else 1)
    key = 0 if attention.shares_kv else attention.kv_heads * attention.head_dim
    value = 0 if attention.shares_kv or attention.values_from_keys else attention.kv_heads * attention.value_dim
    out = attention.heads * attention.value_dim
    made = query + key + value
    return (
        hidden * (made + out)
        + made * attention.bias
        + hidden * attention.output_bias
        + attention.heads * attention.sinks
    )


def _cached(latent: LatentAttention) -> int:
    """Values of the normalised part of what is cached of a token."""
    return latent.kv_rank + latent.rope_dim * latent.absorbed


def _latent(latent: LatentAttention, hidden: int) -> int:
    query = latent.heads * (latent.nope_dim + latent.rope_dim)
    down = latent.kv_rank + latent.rope_dim
    up = 0 if latent.absorbed else latent.kv_rank * latent.heads * (latent.nope_dim + latent.value_dim)
    index = latent.index_heads * latent.index_dim
    indexer = (latent.q_rank or hidden) * index + hidden * (latent.index_dim + latent.index_heads) if index else 0
    out = latent.heads * latent.value_dim
    narrow = latent.output_groups * latent.output_rank
    return (
        (hidden * latent.q_rank + latent.q_rank * query if latent.q_rank else hidden * query)
        + hidden * down
        + up
        + indexer
        + (out * latent.output_rank + narrow * hidden if narrow else out * hidden)
        + (latent.q_rank + down + hidden) * latent.bias
        + latent.heads * latent.sinks
    )


def _mlp(hidden: int, width: int, *, gated: bool, bias: bool = False) -> int:
    ways = 2 if gated else 1
    return (ways + 1) * hidden * width + (ways * width + hidden) * bias


def _experts(experts: Experts, hidden: int) -> dict[TensorClass, int]:
    latent = 2 * hidden * experts.latent
    shared = _mlp(hidden, experts.shared_width, gated=experts.gated) if experts.shared_width else 0
    return {
        "experts": experts.experts * _expert(experts, hidden),
        "shared": shared + latent + hidden * experts.shared_gate,
        "router": hidden * experts.experts + experts.experts * experts.bias,
        "mlp": _mlp(hidden, experts.parallel_mlp, gated=experts.gated) if experts.parallel_mlp else 0,
    }


def _expert(experts: Experts, hidden: int) -> int:
    return _mlp(experts.latent or hidden, experts.width, gated=experts.gated, bias=experts.bias)


def _idle(feed_forward: object, hidden: int) -> int:
    """Parameters of the routed experts that a token does not use."""
    if not isinstance(feed_forward, Experts):
        return 0
    return (feed_forward.experts - feed_forward.active) * _expert(feed_forward, hidden)
