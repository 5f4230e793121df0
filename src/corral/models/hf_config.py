"""Turns a Hugging Face config.json into a model's dimensions; knows that file's keys, not the tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from corral.errors import BadInput
from corral.models.families.layers import layer_count, layer_words
from corral.models.fields import Fields
from corral.models.jsonfile import read_object


@dataclass(frozen=True, slots=True)
class Config:
    """What config.json says; counts as in ModelFacts."""

    architecture: str
    quantization: str  # "awq", "fp8", ... or the data type; empty when it says neither
    quantized_bits: int  # bits of one packed weight; 0: not packed, or not said
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    vocabulary: int
    experts: int
    kv_values: int
    tied: bool  # the token embedding serves as output head
    demo: bool


def read_config(path: Path) -> Config:
    """Read config.json. BadInput, naming the field, when it is damaged or cannot be true."""
    top = read_object(path)
    named = top.get("architectures")
    architecture = str(cast("list[object]", named)[0]) if isinstance(named, list) and named else ""
    if not architecture:
        raise BadInput(f"{path}: architectures is missing.", "Give the folder of a language model.")
    # Models that also see or hear keep the language model's part one level down.
    text = _section(top, "text_config", "llm_config", "language_config") if "num_hidden_layers" not in top else {}
    fields = Fields(str(path), {**top, **text})
    return Config(
        architecture=architecture[:100],
        quantization=_quantization(fields.values),
        quantized_bits=_bits(fields.values),
        **_shape(fields),
        tied=fields.values.get("tie_word_embeddings") is True,
        demo="corral_demo" in top,
    )


def _shape(fields: Fields) -> dict[str, int]:
    layers = layer_count(fields)
    hidden = fields.count("hidden", "hidden_size", "n_embd", "d_model")
    heads = fields.count("heads", "num_attention_heads", "n_head", "n_heads")
    kv_heads = fields.count("kv_heads", "num_key_value_heads", "num_kv_heads", default=heads)
    if heads % kv_heads:
        raise fields.refused("num_key_value_heads", f"is {kv_heads}, which does not divide the {heads} attention heads")
    if fields.values.get("head_dim") is None and "kv_lora_rank" not in fields.values and hidden % heads:
        raise fields.refused("num_attention_heads", f"is {heads}, which does not divide the hidden size {hidden}")
    head_dim = fields.count("head_dim", "head_dim", default=hidden // heads)
    latent = fields.count("head_dim", "kv_lora_rank", default=0, least=0)
    rope = fields.count("head_dim", "qk_rope_head_dim", default=0, least=0) if latent else 0
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": 1 if latent else kv_heads,
        "head_dim": head_dim,
        "context": fields.count(
            "context", "max_position_embeddings", "n_positions", "n_ctx", "seq_length", default=2048
        ),
        "vocabulary": fields.count("vocabulary", "vocab_size"),
        "experts": fields.count(
            "experts", "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", default=0, least=0
        ),
        "kv_values": layers * (latent + rope) if latent else _caching_layers(fields, layers) * 2 * kv_heads * head_dim,
    }


def _caching_layers(fields: Fields, layers: int) -> int:
    """Layers whose attention keeps keys and values: all, unless the model says that some are of a linear kind."""
    kinds = [str(kind) for kind in fields.items("layer_types") or layer_words(fields)]
    return sum("attention" in kind and "linear" not in kind for kind in kinds) if len(kinds) == layers else layers


def _quantization(values: Mapping[str, object]) -> str:
    method = _section(values, "quantization_config", "compression_config").get("quant_method")
    return str(method or values.get("dtype") or values.get("torch_dtype") or "")[:40]


def _bits(values: Mapping[str, object]) -> int:
    bits = _section(values, "quantization_config").get("bits")
    return bits if isinstance(bits, int) and bits in {1, 2, 3, 4, 8} else 0


def _section(values: Mapping[str, object], *keys: str) -> dict[str, Any]:
    for key in keys:
        section = values.get(key)
        if isinstance(section, dict):
            return cast("dict[str, Any]", section)
    return {}
