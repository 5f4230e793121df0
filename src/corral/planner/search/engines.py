"""What an engine can do with a layout's ranks, and what `corral up` starts; knows no model and no memory."""

from typing import Final

from corral.catalog.engines import engine as engine_spec
from corral.planner.search.degrees import Degrees
from corral.planner.search.shapes import Shape

LAUNCHED: Final = ("vllm", "llamacpp")
"""The engines that `corral up` starts: those that are tried unless another is named."""
READS_GGUF: Final = ("llamacpp", "llamacpp-rpc", "ollama", "ik_llama")
READS_MLX: Final = ("mlx", "exo")
_WORDS: Final = {
    "tp": "tensor parallelism", "pp": "pipeline parallelism", "ep": "expert parallelism", "dp": "data parallelism",
}  # fmt: skip


def title(engine: str) -> str:
    """The engine's name for people, as the catalog has it."""
    return engine_spec(engine).name


def against(engine: str, shape: Shape, degrees: Degrees, *, stages: bool) -> tuple[str, str] | None:
    """Why this engine cannot run this layout here, and what it can; None when it can.

    `stages` says whether it can cut the model into pipeline stages.
    """
    if degrees.pp > 1 and not stages:
        return (
            f"{title(engine)} cannot divide this architecture into pipeline stages.",
            "Choose a layout with tensor parallelism only.",
        )
    lacking = _lacking(engine, shape, degrees)
    if lacking is not None or engine not in READS_GGUF:
        return lacking
    if degrees.ep > 1 or degrees.shares_experts:
        return (
            f"{title(engine)} does not spread experts over ranks.",
            "Leave ep out of the layout, or use the engine vllm.",
        )
    bare = all(device.kind == "cpu" or device.vendor == "apple" for device in shape.devices)
    if degrees.tp > 1 and (len(shape.machines) > 1 or degrees.pp > 1 or bare):
        where = "over machines" if len(shape.machines) > 1 else "here"
        return (
            f"{title(engine)} splits a model by layers {where}, not by tensors: it cannot run the layout {degrees}.",
            f"Choose the layout pp{degrees.tp * degrees.pp}, or the engine vllm.",
        )
    return None


def _lacking(engine: str, shape: Shape, degrees: Degrees) -> tuple[str, str] | None:
    """What of the layout the engine does not offer at all, by the catalog."""
    spec = engine_spec(engine)
    if spec.multi_node in {(), ("none",)} and len(shape.machines) > 1:
        return f"{spec.name} runs on one machine.", "Choose a layout of one machine's devices, or another engine."
    together = degrees.dp if degrees.shares_experts else 1
    for kind, degree in (("tp", degrees.tp), ("pp", degrees.pp), ("ep", degrees.ep), ("dp", together)):
        if degree > 1 and kind not in spec.parallelism:
            return f"{spec.name} has no {_WORDS[kind]}.", f"Leave {kind} out of the layout, or use another engine."
    return None


def launchable(engine: str, shape: Shape, degrees: Degrees) -> str:
    """Why `corral up` does not start such a layout; nothing when it does."""
    if engine not in LAUNCHED:
        return f"`corral up` does not start {title(engine)}."
    if degrees.ep > 1:
        return "`corral up` does not start expert parallelism."
    if len({device.id for device in shape.devices}) > 1 and len({device.vendor for device in shape.devices}) > 1:
        return "`corral up` does not join devices of different makers."
    return ""
