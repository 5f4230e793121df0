"""What llama.cpp cannot do, said before anything is fetched or started; knows no path, port or address."""

from difflib import get_close_matches

from corral.engines.base import Placement
from corral.engines.llamacpp.options import pool_tokens
from corral.engines.llamacpp.split import device_indices, weighted_devices
from corral.engines.llamacpp.versions import architectures
from corral.errors import BadInput, DoesNotFit
from corral.units import format_bytes

VARIANTS = ("embedded", "server")
_TYPES = (None, "float32", "float16", "bfloat16")


def variant_of(placement: Placement) -> str:
    """Give the variant asked for, else the lightest that can do it: embedded on one node without CUDA or ROCm."""
    if placement.variant:
        return placement.variant
    return "embedded" if len(placement.nodes) == 1 and placement.accelerator in {"cpu", "metal"} else "server"


def check(placement: Placement) -> None:
    """Raise BadInput or DoesNotFit for what llama.cpp cannot do with this placement."""
    _check_variant(placement)
    _check_model(placement)
    _check_layout(placement)
    _check_context(placement)


def _check_variant(placement: Placement) -> None:
    variant = variant_of(placement)
    if variant not in VARIANTS:
        raise BadInput(f"llama.cpp has no variant {variant!r}.", f"Choose one of {', '.join(VARIANTS)}.")
    if placement.dtype not in _TYPES:
        raise BadInput(
            f"llama.cpp has no KV cache of type {placement.dtype!r}.", "Choose float32, float16 or bfloat16, or none."
        )
    if variant == "embedded" and len(placement.nodes) > 1:
        raise BadInput(
            f"Embedded llama.cpp runs on one node; {len(placement.nodes)} were given.", "Choose the variant server."
        )
    if variant == "embedded" and placement.accelerator in {"cuda", "rocm"}:
        raise DoesNotFit(
            f"Embedded llama.cpp computes on the CPU or with Metal, not with {placement.accelerator}.",
            "Choose the variant server.",
        )


def _check_model(placement: Placement) -> None:
    model = placement.model
    if model.format != "gguf":
        raise BadInput(
            f"llama.cpp reads GGUF files; {model.name} is {model.format}.",
            "Convert it with llama.cpp's convert_hf_to_gguf.py, choose a GGUF version of it, or use the engine vllm.",
        )
    known = architectures(variant_of(placement))
    if model.architecture in known:
        return
    near = get_close_matches(model.architecture, known, n=3)
    hint = f" (it knows {', '.join(near)})" if near else ""
    raise BadInput(
        f"{model.name} has the architecture {model.architecture!r}, which this llama.cpp does not know{hint}.",
        "Choose another model or engine, or name a newer llama.cpp's folder as the environment in the cluster file.",
    )


def _check_layout(placement: Placement) -> None:
    layout, nodes = placement.layout, placement.nodes
    if len(placement.seats) != layout.ranks:
        raise BadInput(
            f"The layout {layout} has {layout.ranks} ranks, {len(placement.seats)} seats were given.",
            "Give each rank a seat.",
        )
    if layout.tp > 1 and (len(nodes) > 1 or placement.accelerator in {"cpu", "metal"} or layout.pp > 1):
        raise DoesNotFit(
            f"llama.cpp splits a model over nodes by layers, not by tensors: it cannot run the layout {layout}"
            f" on {', '.join(nodes)}.",
            f"Choose the layout tp1xpp{layout.ranks}, or the engine vllm.",
        )
    bare = [node for node in nodes if placement.accelerator != "cpu" and not device_indices(placement, node)]
    if bare:
        raise BadInput(
            f"No {placement.accelerator} device of {bare[0]} was chosen.", "Name the devices, or use the CPU."
        )
    parts = len(weighted_devices(placement))
    if placement.model.layers < parts:
        raise DoesNotFit(
            f"{placement.model.name} has {placement.model.layers} layers; they cannot be split {parts} ways.",
            f"Use at most {placement.model.layers} nodes or devices.",
        )


def _check_context(placement: Placement) -> None:
    model = placement.model
    if placement.context > model.context:
        raise DoesNotFit(
            f"{model.name} was made for {model.context} tokens of context, {placement.context} were asked for.",
            f"Ask for at most {model.context}.",
        )
    pool = pool_tokens(placement)
    if pool < placement.context:
        raise DoesNotFit(
            f"{format_bytes(placement.kv_bytes or 0)} of KV cache hold {pool} tokens, fewer than one request's"
            f" {placement.context}.",
            "Give the KV cache more memory, or ask for less context.",
        )
