"""Bytes of weights by rank and tensor class on a layout; knows no cache, no context and no node."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Final, TypeAlias

from corral.models.architecture import Experts
from corral.models.parameters import TensorClass
from corral.models.weights import WeightsByClass
from corral.planner.formats import weight_format
from corral.planner.memory.anatomy import Anatomy, Kind, stage_counts

# vLLM pads the vocabulary so that it splits evenly (model_executor/layers/vocab_parallel_embedding.py).
VOCABULARY_PADDING: Final = 64
_KEPT: Final = 64  # sets of headers
ByClass: TypeAlias = Mapping[TensorClass, int]


@dataclass(frozen=True, slots=True)
class Holding:
    """Who holds what, beside the split itself: where engines differ."""

    llamacpp: bool = False  # the embedding stays in the node's memory, a tied one is held again as head by the device
    host_embedding: bool = False  # that memory is not the device's own (a discrete card)
    draft: bool = False  # multi-token-prediction layers are loaded
    vision: bool = True  # towers are loaded, on every stage


@dataclass(frozen=True, slots=True, eq=False)
class StageWeights:
    """One rank of a stage. `host` is what it keeps in the node's memory, not the device's."""

    by_class: ByClass
    host: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Bytes of a model's tensors as its files' headers state them: by class, and by layer where that is known."""

    by_class: ByClass
    layers: tuple[ByClass, ...] = ()


_known: dict[int, tuple[object, Stock]] = {}


def stock_of(stored: Mapping[TensorClass, int] | WeightsByClass) -> Stock | None:
    """The stock of what was read; the same object for the same headers. None when nothing was read."""
    if not stored:
        return None
    found = _known.get(id(stored))
    if found is None:
        while len(_known) >= _KEPT:
            del _known[next(iter(_known))]
        # What was read is kept beside it, so that its id is not given to another while it stands here.
        found = _known[id(stored)] = (stored, _stock(stored))
    return found[1]


def _stock(stored: Mapping[TensorClass, int] | WeightsByClass) -> Stock:
    if not isinstance(stored, WeightsByClass):
        return Stock(by_class=stored)
    classes: dict[TensorClass, None] = {kind: None for part in (*stored.layers, stored.outside) for kind in part}
    return Stock(by_class={kind: stored.of(kind) for kind in classes}, layers=stored.layers)


@lru_cache(maxsize=128)
def bytes_each(anatomy: Anatomy, name: str, *, gguf: bool, stock: Stock | None) -> Mapping[TensorClass, float]:
    """Bytes of one parameter by class: of the files where their headers were read, else the format's nominal."""
    prices: dict[TensorClass, float] = {
        tensor: bits / 8 for tensor, bits in weight_format(name, gguf=gguf).by_class.items()
    }
    for tensor, count in stock.by_class.items() if stock else ():
        if anatomy.totals.get(tensor) and count:
            prices[tensor] = count / anatomy.totals[tensor]
    if anatomy.model.tied:  # one matrix serves as both
        prices["head"] = prices["embedding"]
    return prices


@lru_cache(maxsize=4096)
def stage_weights(
    anatomy: Anatomy,
    layers: tuple[int, ...],
    tp: int,
    ep: int,
    holding: Holding,
    name: str,
    stock: Stock | None,
) -> tuple[StageWeights, ...]:
    """Weights of one rank of each stage. `layers` are those of each stage, in order."""
    price = bytes_each(anatomy, name, gguf=holding.llamacpp, stock=stock)
    padded = name.lower() == "mxfp4" and not holding.llamacpp
    per_kind = tuple(rank_parameters(kind, tp, ep, padded=padded) for kind in anatomy.kinds)
    last, start = len(layers) - 1, 0
    stages: list[StageWeights] = []
    for stage, counts in enumerate(stage_counts(anatomy, layers)):
        here = _stage_prices(anatomy, counts, stock, start, layers[stage])
        start += layers[stage]
        held: dict[TensorClass, float] = {}
        for index, count in counts.items():
            for tensor, value in per_kind[index].items():
                held[tensor] = held.get(tensor, 0.0) + value * count * here.get(tensor, price[tensor])
        beside, host = _ends(anatomy, tp, holding, first=stage == 0, last=stage == last)
        if holding.draft and stage == last:
            beside["draft"] = _draft(anatomy, tp, ep)
        if holding.vision and anatomy.vision and not holding.llamacpp:
            beside["vision"] = anatomy.vision / tp
        for tensor, value in beside.items():
            held[tensor] = held.get(tensor, 0.0) + value * price[tensor]
        by_class: ByClass = {tensor: ceil(value) for tensor, value in held.items() if value}
        stages.append(StageWeights(by_class=by_class, host=ceil(host * price["embedding"])))
    return tuple(stages)


def _stage_prices(
    anatomy: Anatomy, counts: Mapping[int, int], stock: Stock | None, start: int, count: int
) -> Mapping[TensorClass, float]:
    """Bytes of one parameter in these very layers: mixes of formats keep some layers wider than others."""
    if stock is None or len(stock.layers) != anatomy.model.layers:
        return {}
    size, held = Counter[TensorClass](), Counter[TensorClass]()
    for layer in stock.layers[start : start + count]:
        size.update(layer)
    for index, times in counts.items():
        for tensor, value in anatomy.kinds[index].counts.items():
            held[tensor] += value * times
    return {tensor: size[tensor] / value for tensor, value in held.items() if size[tensor]}


def rank_parameters(kind: Kind, tp: int, ep: int, *, padded: bool = False) -> Mapping[TensorClass, float]:
    """Parameters that one rank holds of one layer of this kind.

    Experts are shared out whole over `ep` ranks, and split as tensors over what is left of `tp`. `padded`: their
    matrices are rounded up, as vLLM does for its MXFP4 kernels (fused_moe/oracle/mxfp4.py).
    """
    held: dict[TensorClass, float] = {tensor: value / tp for tensor, value in kind.split.items()}
    for tensor, value in kind.whole.items():
        held[tensor] = held.get(tensor, 0.0) + value
    if kind.kv:
        held["attention"] = held.get("attention", 0.0) + kind.kv * heads_share(kind.kv_heads, tp)
    if kind.routed:
        slices = max(1, tp // ep)
        held["experts"] = kind.routed / kind.experts * ceil(kind.experts / ep) / slices
        if padded:
            held["experts"] *= _padding(kind, slices)
    return held


def _padding(kind: Kind, slices: int) -> float:
    """By how much an expert's matrices grow when their sides are rounded up to what a kernel takes."""
    experts = kind.block.feed_forward
    if not isinstance(experts, Experts):
        return 1.0
    width, depth = ceil(experts.width / slices), experts.latent or kind.hidden
    return ceil(width / 128) * 128 * ceil(depth / 256) * 256 / (width * depth)


def heads_share(heads: int, tp: int) -> float:
    """The share of KV heads that one rank holds: whole heads, at least one."""
    return ceil(heads / tp) / heads


def _ends(
    anatomy: Anatomy, tp: int, holding: Holding, *, first: bool, last: bool
) -> tuple[dict[TensorClass, float], float]:
    """Parameters of embedding, head and what else is outside layers; and those that lie in the node's memory."""
    padding = 1.0 if holding.llamacpp else _padded(anatomy.model.vocabulary) / anatomy.model.vocabulary
    held: dict[TensorClass, float] = {}
    host = 0.0
    for tensor, value in anatomy.outside.items():
        if last if tensor == "norm" else first:
            held[tensor] = held.get(tensor, 0.0) + value
    if first:
        if holding.host_embedding:
            host = anatomy.embedding
        else:
            held["embedding"] = held.get("embedding", 0.0) + anatomy.embedding * padding / tp
    # A tied head is the embedding itself where both are in one memory.
    if last and not (anatomy.model.tied and first and not holding.host_embedding):
        held["head"] = anatomy.head * padding / tp
    return held, host


def _draft(anatomy: Anatomy, tp: int, ep: int) -> float:
    layers = sum(sum(rank_parameters(kind, tp, ep).values()) for kind in anatomy.drafts)
    return layers + anatomy.draft_extra


def _padded(vocabulary: int) -> int:
    return -(-vocabulary // VOCABULARY_PADDING) * VOCABULARY_PADDING
