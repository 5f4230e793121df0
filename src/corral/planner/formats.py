"""Number formats of weights and caches: bits by tensor class and what is computed in; knows no model and no device.

Embeddings, heads, norms and routers often stay 16 bit, and a GGUF type is a mix of several: bits are given by class.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from corral.catalog.devices import DeviceSpec, NumberFormat
from corral.errors import BadInput
from corral.models.parameters import TensorClass

# Formats whose kernels resemble each other: what the speed model's coefficients are kept by.
Family: TypeAlias = Literal[
    "full", "fp8", "int8", "nvfp4", "mxfp4", "int4", "exl3", "mlx", "gguf-full", "gguf-legacy", "gguf-k", "gguf-i"
]

_CLASSES: Final[tuple[TensorClass, ...]] = (
    "embedding",
    "head",
    "attention",
    "recurrent",
    "mlp",
    "experts",
    "shared",
    "router",
    "norm",
    "draft",
    "vision",
)


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A weight format: stored bits of one weight by tensor class, scales and zero points included."""

    name: str
    family: Family
    by_class: Mapping[TensorClass, float]
    native: NumberFormat  # what matrices are multiplied in where the device can; else in 16 bit after unpacking

    def bits(self, tensor_class: TensorClass) -> float:
        """Stored bits of one weight of this class."""
        return self.by_class[tensor_class]

    def computes_in(self, device: DeviceSpec) -> NumberFormat:
        """What the device multiplies this format's matrices in: FP4 on Ampere, say, is storage only."""
        if self.native in device.matrix:
            return self.native
        if self.native == "fp4" and "fp8" in device.matrix and self.family == "mxfp4":
            return "fp8"
        return self.unpacked_in(device)

    def unpacked_in(self, device: DeviceSpec) -> NumberFormat:
        """What kernels multiply in that unpack weights to 16 bit first (AWQ, GPTQ, Marlin)."""
        wide: NumberFormat = "bf16" if "bf16" in device.matrix else "fp16"
        return wide if wide in device.flops else next(f for f in ("fp16", "bf16", "fp32") if f in device.flops)


@dataclass(frozen=True, slots=True)
class CacheFormat:
    """A cache format: bits of one key value and of one value value, scales included."""

    name: str
    key_bits: float
    value_bits: float

    @property
    def bits(self) -> float:
        """The mean of keys and values."""
        return (self.key_bits + self.value_bits) / 2


def _uniform(name: str, family: Family, bits: float, native: NumberFormat, **other: float) -> WeightFormat:
    """Linear layers in `bits`; what engines leave alone in 16 bit, unless said otherwise."""
    by: dict[TensorClass, float] = dict.fromkeys(_CLASSES, bits)
    for kept in _KEPT_WIDE:
        by[kept] = max(16.0, bits)
    by.update({c: other[c] for c in _CLASSES if c in other})
    return WeightFormat(name, family, by, native)


_KEPT_WIDE: Final[tuple[TensorClass, ...]] = ("embedding", "head", "router", "norm", "draft", "vision")


def _gguf(name: str, family: Family, base: float, head: float, **other: float) -> WeightFormat:
    """A GGUF mix: `base` everywhere, the output matrix wider, norms and routers in 32 bit, towers in 16."""
    by: dict[TensorClass, float] = dict.fromkeys(_CLASSES, base)
    by |= {"head": head, "router": 32.0, "norm": 32.0, "vision": 16.0}
    by.update({c: other[c] for c in _CLASSES if c in other})
    by["shared"] = other.get("shared", by["experts"])
    return WeightFormat(name, family, by, "fp16")


def _k(name: str, base: float, attention: float, ffn: float, head: float = 6.5625) -> WeightFormat:
    """A k-quant or i-quant mix: attention and feed-forward each hold some wider matrices (llama.cpp's llama-quant)."""
    family: Family = "gguf-i" if name.startswith("iq") else "gguf-k"
    return _gguf(name, family, base, head, attention=attention, mlp=ffn, experts=ffn)


# Bits of ggml's blocks are those of corral.models.ggml_types. The mixes follow llama.cpp's rules: of the value
# projection and of the feed-forward's down projection a part of the layers is kept wider. EXL3 keeps its head in
# 6 bit; AWQ, GPTQ and AutoRound hold a 16-bit scale and a zero point for 128 weights; MLX both in 16 bit for 64.
_FORMATS: Final[Mapping[str, WeightFormat]] = {
    f.name: f
    for f in (
        _uniform("fp32", "full", 32.0, "fp32"),
        _uniform("bf16", "full", 16.0, "bf16"),
        _uniform("fp16", "full", 16.0, "fp16"),
        _uniform("fp8", "fp8", 8.0, "fp8"),
        _uniform("mxfp8", "fp8", 8.25, "fp8"),
        _uniform("int8", "int8", 8.0, "int8"),
        _uniform("nvfp4", "nvfp4", 4.5, "fp4", recurrent=16.0),
        _uniform("mxfp4", "mxfp4", 16.0, "fp4", experts=4.25),
        _uniform("awq-int4", "int4", 4.16, "fp16", recurrent=16.0),
        _uniform("gptq-int4", "int4", 4.16, "fp16"),
        _uniform("autoround-int4", "int4", 4.16, "fp16"),
        _uniform("int4", "int4", 4.16, "fp16"),
        _uniform("bnb-4bit", "int4", 4.5, "fp16"),
        _uniform("mlx-3bit", "mlx", 3.5, "fp16", embedding=3.5, head=3.5),
        _uniform("mlx-4bit", "mlx", 4.5, "fp16", embedding=4.5, head=4.5),
        _uniform("mlx-5bit", "mlx", 5.5, "fp16", embedding=5.5, head=5.5),
        _uniform("mlx-6bit", "mlx", 6.5, "fp16", embedding=6.5, head=6.5),
        _uniform("mlx-8bit", "mlx", 8.5, "fp16", embedding=8.5, head=8.5),
        _gguf("gguf-f16", "gguf-full", 16.0, 16.0),
        _gguf("gguf-bf16", "gguf-full", 16.0, 16.0),
        _gguf("gguf-mxfp4", "mxfp4", 8.5, 8.5, experts=4.25, shared=8.5),
        _gguf("gguf-nvfp4", "nvfp4", 8.5, 8.5, experts=4.5, shared=4.5, mlp=4.5, attention=4.5),
        _gguf("q8_0", "gguf-legacy", 8.5, 8.5),
        _gguf("q5_1", "gguf-legacy", 6.0, 6.5625),
        _gguf("q5_0", "gguf-legacy", 5.5, 6.5625),
        _gguf("q4_1", "gguf-legacy", 5.0, 6.5625),
        _gguf("q4_0", "gguf-legacy", 4.5, 6.5625),
        _k("q6_k", 6.5625, 6.5625, 6.5625),
        _k("q5_k_m", 5.5, 5.6, 5.68),
        _k("q5_k_s", 5.5, 5.5, 5.5),
        _k("q4_k_m", 4.5, 4.6, 4.85),
        _k("q4_k_s", 4.5, 4.51, 4.54),
        _k("q3_k_l", 3.4375, 4.4, 4.13),
        _k("q3_k_m", 3.4375, 3.97, 3.65),
        _k("q3_k_s", 3.4375, 3.44, 3.44),
        _k("q2_k", 2.625, 3.14, 2.9),
        _k("q2_k_s", 2.625, 2.9, 2.7),
        _k("iq4_xs", 4.25, 4.3, 4.3),
        _k("iq4_nl", 4.5, 4.53, 4.53),
        _k("iq3_m", 3.4375, 4.0, 3.65),
        _k("iq3_s", 3.4375, 3.5, 3.44),
        _k("iq3_xs", 3.25, 3.4, 3.3),
        _k("iq3_xxs", 3.0625, 3.3, 3.23),
        _k("iq2_m", 2.5625, 3.1, 2.7, 5.5),
        _k("iq2_s", 2.5625, 2.8, 2.5, 5.5),
        _k("iq2_xs", 2.3125, 2.6, 2.4, 5.5),
        _k("iq2_xxs", 2.0625, 2.4, 2.2, 5.5),
        _k("iq1_m", 1.75, 2.2, 1.85, 5.5),
        _k("iq1_s", 1.5625, 2.1, 1.7, 5.5),
    )
}

_ALIASES: Final[Mapping[str, str]] = {
    "f32": "fp32",
    "float32": "fp32",
    "f16": "fp16",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "16bit": "bf16",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
    "fp8-static": "fp8",
    "fp8-dynamic": "fp8",
    "fp8-block": "fp8",
    "w8a8-fp8": "fp8",
    "w8a8": "int8",
    "int8-w8a8": "int8",
    "w8a16": "int8",
    "8bit": "int8",
    "fp4": "nvfp4",
    "awq": "awq-int4",
    "awq-4bit": "awq-int4",
    "w4a16": "int4",
    "gptq": "gptq-int4",
    "autoround": "autoround-int4",
    "nf4": "bnb-4bit",
    "4bit": "int4",
    "q8": "q8_0",
    "q6": "q6_k",
    "q5": "q5_k_m",
    "q4": "q4_k_m",
    "q3": "q3_k_m",
    "q2": "q2_k",
    "q4_k": "q4_k_m",
    "q5_k": "q5_k_m",
    "q3_k": "q3_k_m",
    "iq4": "iq4_xs",
    "iq3": "iq3_xxs",
    "iq2": "iq2_xxs",
    "iq1": "iq1_m",
    "mlx-q4": "mlx-4bit",
    "mlx-q8": "mlx-8bit",
    "dflash-quant": "int4",
}
# GGUF files hold these types too, but with another set of classes left wide.
_IN_GGUF: Final[Mapping[str, str]] = {
    "fp16": "gguf-f16",
    "bf16": "gguf-bf16",
    "mxfp4": "gguf-mxfp4",
    "nvfp4": "gguf-nvfp4",
    "int4": "q4_0",
    "int8": "q8_0",
}
# Unsloth's dynamic files keep attention and shared experts wider than the mix that they are named after.
_DYNAMIC: Final[Mapping[str, float]] = {"attention": 1.5, "recurrent": 1.5, "shared": 1.5, "embedding": 0.5}

KNOWN_FORMATS: Final = tuple(_FORMATS)


@lru_cache(maxsize=512)
def weight_format(name: str, *, gguf: bool = False) -> WeightFormat:
    """The weight format of this name, in any of its spellings; `gguf` when an engine reads it from a GGUF file.

    A name that is not known but tells its bits ("foo-int6", "w4", "exl3-3.5bpw") gets a format of so many. The empty
    name is not a format: ask `native_format` what a model is published in. Raises BadInput.
    """
    plain = re.sub(r"[\s:]+", "-", name.strip().lower())
    dynamic = plain.startswith("ud-") or plain.endswith("_xl")
    if dynamic:
        plain = re.sub(r"_k_xl$", "_k_m", plain.removeprefix("ud-"))
    plain = _ALIASES.get(plain, plain)
    if plain in _ALIASES or plain in _FORMATS:
        plain = _ALIASES.get(plain, plain)
    elif plain.replace("-", "_") in _FORMATS:
        plain = plain.replace("-", "_")
    if gguf:
        plain = _IN_GGUF.get(plain, plain)
    known = _FORMATS.get(plain)
    if known is None:
        return _by_bits(name, plain, gguf=gguf)
    if dynamic and known.family in {"gguf-k", "gguf-i"}:
        wider: dict[TensorClass, float] = {c: known.by_class[c] + _DYNAMIC.get(c, 0.0) for c in _CLASSES}
        return WeightFormat(f"ud-{known.name}", known.family, wider, known.native)
    return known


def _by_bits(name: str, plain: str, *, gguf: bool) -> WeightFormat:
    """A format that says how many bits it has."""
    number = r"(\d+(?:\.\d+)?)"
    found = re.search(rf"{number}\s*(?:bpw|bits?)", plain) or re.search(rf"(?:int|fp|nf|uint|[wq]){number}", plain)
    bits = float(found.group(1)) if found else 0.0
    if not 1 <= bits <= 32:
        raise BadInput(
            f"{name!r} is not a weight format that is known, and its name gives no number of bits.",
            "Known are " + ", ".join(KNOWN_FORMATS[:12]) + ", and GGUF's types such as q4_k_m.",
        )
    if "exl" in plain:
        return _uniform(plain, "exl3", bits, "fp16", head=max(6.0, bits), draft=bits)
    if "mlx" in plain:
        return _uniform(plain, "mlx", bits + 0.5, "fp16", embedding=bits + 0.5, head=bits + 0.5)
    if gguf or re.match(r"i?q\d", plain):
        return _gguf(plain, "gguf-k", bits + 0.5, max(6.5625, bits + 0.5))
    if bits >= 16:
        return _uniform(plain, "full", bits, "bf16")
    if bits > 6:
        return _uniform(plain, "fp8" if "fp" in plain else "int8", bits, "fp8" if "fp" in plain else "int8")
    return _uniform(plain, "int4", bits + 0.16, "fp16")


# What each of these is published in, by the start of its catalog id; all others in bfloat16.
_NATIVE: Final = (
    ("gpt-oss", "mxfp4"),
    ("deepseek-v3", "fp8"),
    ("deepseek-r1", "fp8"),
    ("deepseek-v4", "fp8"),
    ("minimax-m2", "fp8"),
    ("kimi-k2-thinking", "int4"),
    ("kimi-k2.5", "int4"),
    ("kimi-k2", "fp8"),
)


def native_format(model: str, *, gguf: bool = False) -> WeightFormat:
    """What a model (a catalog id) is run in when nobody says: as published; as GGUF in 4-bit k-quants."""
    native = next((f for start, f in _NATIVE if model.startswith(start)), "bf16")
    return weight_format("q4_k_m" if gguf and native != "mxfp4" else native, gguf=gguf)


_CACHE_BITS: Final[Mapping[str, float]] = {
    "f32": 32.0,
    "f16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "q8_0": 8.5,
    "q5_1": 6.0,
    "q5_0": 5.5,
    "q4_1": 5.0,
    "q4_0": 4.5,
    "iq4_nl": 4.5,
    "nvfp4": 4.5,
    "int4": 4.5,
}


@lru_cache(maxsize=128)
def kv_format(name: str = "auto") -> CacheFormat:
    """The cache format of this name: "f16", "fp8_e4m3", "q8_0/q4_0" (keys/values), "auto" (16 bit). Raises BadInput."""
    plain = name.strip().lower()
    keys, _, values = plain.partition("/")
    key, value = _cache_bits(keys, name), _cache_bits(values or keys, name)
    return CacheFormat(plain or "auto", key, value)


def _cache_bits(plain: str, name: str) -> float:
    if not plain or plain.startswith("auto"):
        return 16.0
    if plain in _CACHE_BITS:
        return _CACHE_BITS[plain]
    if plain.startswith("fp8"):
        return 8.0
    if plain in {"fp16", "float16", "bfloat16", "half"}:
        return 16.0
    found = re.search(r"(\d+)", plain)
    bits = int(found.group(1)) if found else 0
    if not 2 <= bits <= 32:
        raise BadInput(
            f"{name!r} is not a cache format that is known.", "Known are auto, f16, bf16, fp8, q8_0, q5_1, q4_0."
        )
    return bits + (0.5 if bits < 16 and plain.startswith("q") else 0.0)
