"""The engines by name; knows nothing of what they do."""

from corral.engines.base import Engine
from corral.errors import BadInput

NAMES = ("llamacpp", "vllm")


def engine_named(name: str) -> Engine:
    """The engine of this name; BadInput when there is none."""
    if name == "llamacpp":
        from corral.engines.llamacpp.engine import LlamaCpp  # noqa: PLC0415 - only what is used is loaded

        return LlamaCpp()
    if name == "vllm":
        from corral.engines.vllm.engine import Vllm  # noqa: PLC0415 - as above

        return Vllm()
    raise BadInput(f"There is no engine named {name!r}.", f"Use one of {', '.join(NAMES)}.")
