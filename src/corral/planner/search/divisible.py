"""By which degrees a model can be split: whole heads, whole columns, whole experts, whole layers; knows no device."""

from collections.abc import Iterator
from typing import Final

from corral.errors import BadInput
from corral.models.architecture import Attention, Block, Experts, LatentAttention, Mlp, ModelArchitecture, Recurrent
from corral.planner.search.degrees import Degrees

MOST_TENSOR: Final = 64


def tensor_degrees(model: ModelArchitecture, most: int) -> tuple[int, ...]:
    """The tensor-parallel degrees up to `most` that leave every rank the same work, experts split as tensors or not."""
    return tuple(tp for tp in range(1, min(most, MOST_TENSOR) + 1) if not _against_tensors(model.blocks, tp))


def splits_experts(model: ModelArchitecture, tp: int) -> bool:
    """Whether every expert can be split as a tensor by this degree."""
    return not any(_against_width(block, tp) for block in model.blocks)


def spreads_experts(model: ModelArchitecture, ep: int) -> bool:
    """Whether there are experts, and they can be shared out whole over so many ranks."""
    counts = [block.feed_forward.experts for block in model.blocks if isinstance(block.feed_forward, Experts)]
    return bool(counts) and all(count % ep == 0 for count in counts)


def require_divisible(model: ModelArchitecture, degrees: Degrees) -> None:
    """Raise BadInput, with the degrees that would do, for a layout that the model does not allow."""
    against = _against_tensors(model.blocks, degrees.tp)
    if not against and degrees.ep == 1:
        against = next((why for block in model.blocks if (why := _against_width(block, degrees.tp))), "")
    if against:
        fitting = [tp for tp in tensor_degrees(model, MOST_TENSOR) if degrees.ep > 1 or splits_experts(model, tp)]
        raise BadInput(
            f"{model.name} has {against}; they cannot be split {degrees.tp} ways.",
            f"Choose a tensor-parallel degree of {', '.join(map(str, fitting))}, or divide by layers (pipeline"
            " parallel).",
        )
    if degrees.pp > model.layers:
        raise BadInput(
            f"{model.name} has {model.layers} layers; they cannot make {degrees.pp} pipeline stages.",
            f"Choose a pipeline degree of at most {model.layers}.",
        )
    if degrees.ep > 1 and not spreads_experts(model, degrees.ep):
        raise BadInput(*_no_experts(model, degrees.ep))


def _no_experts(model: ModelArchitecture, ep: int) -> tuple[str, str]:
    counts = [block.feed_forward.experts for block in model.blocks if isinstance(block.feed_forward, Experts)]
    if not counts:
        return f"{model.name} has no experts to spread over {ep} ranks.", "Leave ep out of the layout."
    fitting = [str(degree) for degree in range(2, 65) if all(count % degree == 0 for count in counts)]
    return (
        f"{model.name} has {counts[0]} experts; they cannot be shared out evenly over {ep} ranks.",
        f"Choose an expert-parallel degree of {', '.join(fitting)}.",
    )


def _against_tensors(blocks: tuple[Block, ...], tp: int) -> str:
    """What speaks against splitting all but the experts by this degree; nothing when it can be done."""
    return next((why for block in blocks for why in _reasons(block, tp)), "")


def _reasons(block: Block, tp: int) -> Iterator[str]:
    yield from _mixer_reasons(block, tp)
    match block.feed_forward:
        case Mlp(width=width) if width % tp:
            yield f"{width} columns in its feed-forward layers"
        case Experts(shared_width=shared, parallel_mlp=beside) if shared % tp or beside % tp:
            yield f"{shared or beside} columns in its shared experts"
        case _:
            pass


def _mixer_reasons(block: Block, tp: int) -> Iterator[str]:
    match block.mixer:
        case Attention() as attention:
            kv_heads = attention.kv_heads
            if attention.heads % tp or (kv_heads % tp and tp % kv_heads):
                yield f"{attention.heads} attention heads and {kv_heads} KV heads"
        case LatentAttention(heads=heads) | Recurrent(heads=heads) if heads % tp:
            yield f"{heads} heads"
        case _:
            pass


def _against_width(block: Block, tp: int) -> str:
    experts = block.feed_forward
    if isinstance(experts, Experts) and experts.width % tp:
        return f"{experts.width} columns in each expert"
    return ""
