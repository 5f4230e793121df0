"""A model's parameters laid out for splitting: by kind of layer, what ranks share and hold; knows no format.

Read once for an architecture and kept, so that hundreds of layouts of one model are weighed in microseconds each.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from corral.models.architecture import Attention, Block, Experts, LatentAttention, ModelArchitecture
from corral.models.parameters import TensorClass, block_parameters, parameters

_KEPT: Final = 64  # architectures; a comparison of models looks at a handful
_WHOLE: Final[frozenset[TensorClass]] = frozenset({"norm", "router"})
Parameters = Mapping[TensorClass, int]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Parameters of one kind of layer, by how tensor parallelism treats them."""

    block: Block
    hidden: int
    counts: Parameters  # all of it
    split: Parameters  # divided evenly
    whole: Parameters  # held by every rank: norms, routers, the compressing projections of latent attention
    kv: int  # key and value projections: divided by whole KV heads, never below one a rank
    kv_heads: int  # 0 with latent attention, whose cache all heads share
    routed: int  # all routed experts
    experts: int  # how many


@dataclass(frozen=True, slots=True, eq=False)
class Anatomy:
    """What memory needs of an architecture. Compared by identity, so that it is a cheap key of caches."""

    model: ModelArchitecture
    kinds: tuple[Kind, ...]
    drafts: tuple[Kind, ...]
    embedding: int  # parameters of the input embedding
    head: int  # of the output head, a tied one as well
    draft_extra: int
    outside: Parameters  # beside layers, embedding, head, draft and towers: the last norm, position tables
    vision: int
    totals: Parameters  # of the whole model, as `parameters` counts them


_known: dict[int, Anatomy] = {}


def anatomy_of(model: ModelArchitecture) -> Anatomy:
    """The anatomy of this very object, read once."""
    found = _known.get(id(model))
    if found is None:
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        # The anatomy holds the model, so that its id is not given to another while it stands here.
        found = _known[id(model)] = _read(model)
    return found


def _read(model: ModelArchitecture) -> Anatomy:
    totals = parameters(model)
    kinds = tuple(_kind(block, model.hidden) for block in model.blocks)
    embedding = model.vocabulary * model.hidden
    within: Counter[TensorClass] = Counter()
    for index, count in Counter(model.order).items():
        for name, value in block_parameters(model.blocks[index], model.hidden).items():
            within[name] += value * count
    within["embedding"] += embedding
    within["head"] += 0 if model.tied else embedding
    outside: dict[TensorClass, int] = {
        name: value - within[name] for name, value in totals.items() if name not in {"draft", "vision", "head"}
    }
    drafts = tuple(_kind(block, model.hidden) for block in model.draft)
    return Anatomy(
        model=model,
        kinds=kinds,
        drafts=drafts,
        embedding=embedding,
        head=embedding,
        draft_extra=model.draft_extra,
        outside=outside,
        vision=model.vision,
        totals=totals,
    )


def _kind(block: Block, hidden: int) -> Kind:
    every = block_parameters(block, hidden)
    counts: dict[TensorClass, int] = dict(every)
    routed = counts.pop("experts", 0)
    whole: dict[TensorClass, int] = {name: counts.pop(name) for name in _WHOLE if name in counts}
    kv, kv_heads = 0, 1
    match block.mixer:
        case Attention() as attention:
            kv_heads = attention.kv_heads
            if not attention.shares_kv:
                values = 0 if attention.values_from_keys else attention.value_dim
                kv = hidden * kv_heads * (attention.head_dim + values)
            counts["attention"] = counts.get("attention", 0) - kv
        case LatentAttention() as latent:
            kv_heads = 0
            replica = min(_latent_replica(latent, hidden), counts.get("attention", 0))
            whole["attention"] = replica
            counts["attention"] = counts.get("attention", 0) - replica
        case _:
            pass
    experts = block.feed_forward.experts if isinstance(block.feed_forward, Experts) else 1
    return Kind(
        block=block,
        hidden=hidden,
        counts=every,
        split=counts,
        whole=whole,
        kv=kv,
        kv_heads=kv_heads,
        routed=routed,
        experts=experts,
    )


def _latent_replica(latent: LatentAttention, hidden: int) -> int:
    """What every rank holds of latent attention: the compressing projections and the indexer.

    As vLLM's model_executor/models/deepseek_v2.py builds them (ReplicatedLinear).
    """
    compress = hidden * (latent.q_rank + latent.kv_rank + latent.rope_dim)
    queries = (latent.q_rank or hidden) * latent.index_heads * latent.index_dim
    return compress + queries + hidden * (latent.index_dim + latent.index_heads)


@lru_cache(maxsize=256)
def stage_counts(anatomy: Anatomy, layers: tuple[int, ...]) -> tuple[Mapping[int, int], ...]:
    """For each stage, how many layers of each kind it has."""
    order, start = anatomy.model.order, 0
    stages: list[Mapping[int, int]] = []
    for count in layers:
        stages.append(Counter(order[start : start + count]))
        start += count
    return tuple(stages)
