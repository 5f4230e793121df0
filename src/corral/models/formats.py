"""What a model's files call their quantization -> the format's common name; knows no bits and no file."""

import re
from collections.abc import Mapping
from typing import Final

from corral.models.fields import Fields

_DTYPES: Final = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float8_e4m3fn": "fp8"}
_METHODS: Final = {
    "fbgemm_fp8": "fp8",
    "modelopt_fp4": "nvfp4",
    "auto-round": "autoround-int4",
    "autoround": "autoround-int4",
    "intel/auto-round": "autoround-int4",
}
_GGUF: Final = {
    "F32": "fp32",
    "F16": "gguf-f16",
    "BF16": "gguf-bf16",
    "MXFP4": "gguf-mxfp4",
    "NVFP4": "gguf-nvfp4",
    "Q3_K": "q3_k_m",
    "Q4_K": "q4_k_m",
    "Q5_K": "q5_k_m",
}
# Of a repository's name: what its copies are stored in, where no file was read.
_IN_NAME: Final = (
    (re.compile(r"nvfp4|(?<![a-z])fp4\b"), "nvfp4"),
    (re.compile(r"mxfp4"), "mxfp4"),
    (re.compile(r"fp8"), "fp8"),
    (re.compile(r"awq"), "awq-int4"),
    (re.compile(r"gptq"), "gptq-int4"),
    (re.compile(r"autoround|auto-round"), "autoround-int4"),
    (re.compile(r"int4|w4a16"), "int4"),
    (re.compile(r"int8|w8a8"), "int8"),
    (re.compile(r"bf16"), "bf16"),
)
_GGUF_IN_NAME: Final = re.compile(r"(?<![a-z0-9])(i?q\d(?:_\w+)?|f16)(?![a-z0-9])")


def format_of_config(config: Mapping[str, object]) -> str | None:
    """The format that a config.json states, by its quantization or else its data type; None when it says neither."""
    top = Fields("config.json", config)
    both = [fields for fields in (top, top.section("text_config")) if fields is not None]
    for fields in both:
        quantization = fields.section("quantization_config", "compression_config")
        if quantization is not None:
            return _of_quantization(quantization)
        mlx = fields.section("quantization")
        if mlx is not None and isinstance(mlx.values.get("bits"), int):
            return f"mlx-{mlx.values['bits']}bit"
    for fields in both:
        dtype = fields.values.get("dtype") or fields.values.get("torch_dtype")
        if isinstance(dtype, str):
            return _DTYPES.get(dtype, dtype[:40])
    return None


def _of_quantization(fields: Fields) -> str | None:
    method = str(fields.values.get("quant_method") or "").lower()
    algorithm = str(fields.values.get("quant_algo") or fields.values.get("format") or "").lower()
    bits = fields.values.get("bits") or fields.values.get("w_bit")
    if method in {"awq", "gptq"}:
        return f"{method}-int4" if bits in {None, 4} else f"int{bits}"
    if method == "bitsandbytes":
        return "bnb-4bit" if fields.values.get("load_in_4bit") is True else "int8"
    stated = next((known for known in ("nvfp4", "mxfp4", "mxfp8", "fp8") if known in algorithm), None)
    return stated or _of_weights(fields) or _METHODS.get(method, method[:40] or None)


def _of_weights(fields: Fields) -> str | None:
    """compressed-tensors and ModelOpt state bits, kind and group of weights by group of layers; fewest bits decide."""
    groups = fields.section("config_groups")
    found: list[tuple[int, str, int]] = []
    for name in groups.values if groups is not None else ():
        group = groups.section(name) if groups is not None else None
        weights = group.section("weights") if group is not None else None
        if weights is None:
            continue
        bits, kind, size = (weights.values.get(key) for key in ("num_bits", "type", "group_size"))
        if isinstance(bits, int) and isinstance(kind, str):
            found.append((bits, kind, size if isinstance(size, int) else 0))
    if not found:
        return None
    bits, kind, size = min(found)
    if kind != "float":
        return f"int{bits}"
    if bits == 8:
        return "fp8"
    return "mxfp4" if size == 32 else "nvfp4"


def format_of_gguf(quantization: str) -> str | None:
    """A GGUF file type ("Q4_K_M", "BF16"), or the type of most of its tensors, as a format's name; None for neither."""
    return _GGUF.get(quantization, quantization.lower()) if quantization != "unknown" else None


def format_in_name(name: str) -> str | None:
    """The format that a repository's name states; None when it states none."""
    plain = name.lower()
    gguf = _GGUF_IN_NAME.search(plain)
    if gguf is not None:
        return format_of_gguf(gguf[1].upper())
    return next((format_name for pattern, format_name in _IN_NAME if pattern.search(plain)), None)
