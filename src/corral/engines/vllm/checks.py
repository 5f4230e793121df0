"""What vLLM cannot do, said before anything is fetched or started; knows no command line."""

from itertools import groupby

from corral.engines.base import Placement
from corral.engines.vllm.architectures import architectures
from corral.engines.vllm.flags import dtype_of
from corral.engines.vllm.variant import seats_on, variant_of
from corral.errors import BadInput, DoesNotFit


def check(placement: Placement) -> None:
    """Raise BadInput or DoesNotFit with what would do instead."""
    for rule in (_format, _accelerator, _architecture, _seats, _heads, _stages, _numbers, _context):
        rule(placement)


def _format(placement: Placement) -> None:
    model = placement.model
    if model.format != "safetensors":
        raise BadInput(
            f"vLLM does not read {model.format.upper()} files ({model.path}).",
            "Use the engine llamacpp for this file, or name the model's safetensors folder.",
        )


def _accelerator(placement: Placement) -> None:
    if placement.accelerator == "metal":
        raise BadInput("vLLM does not run on Apple's GPUs.", "Use the engine llamacpp, with a GGUF of the model.")


def _architecture(placement: Placement) -> None:
    known, name = architectures(), placement.model.architecture
    if known.serves(name):
        return
    nearest = known.nearest(name)
    also = f" (it knows {', '.join(nearest)})" if nearest else ""
    raise BadInput(
        f"vLLM {known.vllm} does not know the architecture {name} of {placement.model.name}{also}.",
        "Choose another model, or use the engine llamacpp if a GGUF of this one exists.",
    )


def _seats(placement: Placement) -> None:
    """A seat for every rank; without Ray the same number on each node, in the order of the nodes."""
    ranks = placement.layout.ranks
    if len(placement.seats) != ranks:
        raise BadInput(
            f"The layout {placement.layout} has {ranks} ranks, the placement {len(placement.seats)} seats.",
            "Give one seat for every rank.",
        )
    nodes = [node for node, _ in groupby(seat.node for seat in placement.seats)]
    if len(nodes) != len(set(nodes)):
        raise BadInput(
            f"The seats of one node are not side by side ({', '.join(nodes)}); vLLM numbers ranks node by node.",
            "Order the seats by node.",
        )
    counts = {seats_on(placement, node) for node in nodes}
    if variant_of(placement) == "mp" and len(counts) > 1:
        raise BadInput(
            f"Without Ray vLLM wants equally many ranks on every node; here they are {sorted(counts)}.",
            "Use the variant ray, or a layout with the same number of ranks on each node.",
        )


def _heads(placement: Placement) -> None:
    model, tp = placement.model, placement.layout.tp
    if model.heads % tp:
        fitting = [str(degree) for degree in range(1, model.heads + 1) if model.heads % degree == 0 and degree <= 64]
        raise DoesNotFit(
            f"{model.name} has {model.heads} attention heads, which {tp} tensor-parallel ranks cannot share evenly.",
            f"Choose a tensor-parallel degree of {', '.join(fitting)}, or divide by layers (pipeline parallel).",
        )
    if model.kv_heads % tp and tp % model.kv_heads:
        raise DoesNotFit(
            f"{model.name} has {model.kv_heads} KV heads; {tp} tensor-parallel ranks can neither divide nor copy them "
            "evenly.",
            "Choose a tensor-parallel degree that divides that number or is a multiple of it.",
        )


def _stages(placement: Placement) -> None:
    model, pp = placement.model, placement.layout.pp
    if pp > model.layers:
        raise DoesNotFit(
            f"{model.name} has {model.layers} layers; {pp} pipeline stages would leave some empty.",
            f"Choose at most {model.layers} stages.",
        )
    if pp > 1 and not architectures().pipelines(model.architecture):
        raise DoesNotFit(
            f"vLLM {architectures().vllm} cannot divide {model.architecture} into pipeline stages.",
            "Choose a layout with tensor parallelism only, or a model that fits one node.",
        )


def _numbers(placement: Placement) -> None:
    known = {"auto", "float32", "float", "bfloat16", "float16", "half"}
    if (dtype := dtype_of(placement)) not in known:
        raise BadInput(f"vLLM does not compute in {dtype!r}.", f"Choose one of {', '.join(sorted(known))}.")


def _context(placement: Placement) -> None:
    if placement.context > placement.model.context:
        raise BadInput(
            f"{placement.model.name} was made for contexts of up to {placement.model.context} tokens, "
            f"{placement.context} were asked for.",
            f"Ask for {placement.model.context} or less.",
        )
