"""Engines by the arithmetic of their memory, their defaults, and the share of a device that they plan with."""

from typing import Final, Literal, TypeAlias

from corral.catalog.devices import DeviceSpec
from corral.units import GIB

Family: TypeAlias = Literal["vllm", "llamacpp"]
# Built on llama.cpp, or like it in what counts: a cache for each request, layers one after another, one small process.
_LLAMA_LIKE: Final = (
    "llamacpp", "llama.cpp", "ik_llama", "ik-llama", "ollama", "lm-studio", "lmstudio", "koboldcpp", "mlx", "exo",
    "distributed-llama",
)  # fmt: skip
# vLLM's default --gpu-memory-utilization, and what llama.cpp's allocations reach before the driver refuses.
_SHARE: Final[dict[Family, float]] = {"vllm": 0.9, "llamacpp": 0.97}


def family_of(engine: str) -> Family:
    """Which engine's arithmetic holds: llama.cpp's for what is like it, else vLLM's, as the others page too."""
    return "llamacpp" if engine.lower().startswith(_LLAMA_LIKE) else "vllm"


def default_batch(family: Family, device: DeviceSpec, ranks: int) -> int:
    """Tokens of the largest batch unless the user says otherwise.

    vLLM 0.32, engine/arg_utils.py: by the device's memory, and on a CPU by the ranks. llama.cpp: --ubatch-size.
    """
    if family == "llamacpp":
        return 512
    if device.kind == "cpu":
        return 2048 * ranks
    if device.memory >= 160 * GIB:
        return 16384
    return 8192 if device.memory >= 70 * GIB and not device.id.startswith("a100") else 2048


# What a driver shows of a discrete card to programs: 23.56 to 23.58 of 24 GiB, 79.2 of 80, 44.4 of 45, 94.97 of 95.6.
_SHOWN: Final = 0.985


def room(device: DeviceSpec, engine: str, utilization: float | None = None) -> int:
    """Bytes of a device that an engine may fill: its share of what is usable.

    `utilization` is vLLM's --gpu-memory-utilization. A CPU's memory is usable to the end: nothing else is set aside.
    """
    if device.kind == "cpu":
        return device.usable
    return int(shown(device) * (utilization or _SHARE[family_of(engine)]))


def shown(device: DeviceSpec) -> int:
    """Bytes that a program sees of a device."""
    return device.usable if device.unified or device.kind == "cpu" else int(device.usable * _SHOWN)
