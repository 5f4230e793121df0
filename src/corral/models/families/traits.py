"""What families of models have that their config.json does not say; knows no single model.

Each entry states what the family's reference implementation does (PyPI package transformers 5.23.0, modeling_*.py and
configuration_*.py of that model_type): what is silent there is a default here.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

Asked = Literal["never", "asked", "always"]  # "asked": when config.json's attention_bias is true
Layout = Literal[
    "full", "windowed", "qwen", "interval", "pattern", "chunked", "alternating", "short-conv", "lightning", "delta-list"
]


@dataclass(frozen=True, slots=True)
class Family:
    """What a family does where its config.json is silent."""

    tied: bool = False
    norms: int = 2  # vectors of hidden size in a layer
    qk_norm: Literal["none", "head", "whole"] = "none"  # one vector of a head's size, or of all heads'
    bias: Asked = "never"  # of the query, key and value projections
    output_bias: Asked = "never"
    gate: Literal["none", "asked", "always", "per-head"] = "none"  # an output gate of the attention
    gated_mlp: bool = True
    sinks: bool = False
    latent: bool = False  # multi-head latent attention
    layout: Layout = "full"  # which layers are of which kind, where no list says it
    sparse: Literal["never", "all", "rules"] = "never"  # which layers have experts
    shared_gate: bool = False
    expert_bias: bool = False
    correction: bool = False  # the router has a correction a routed expert
    mtp: Literal["none", "deepseek", "qwen", "nemotron"] = "none"
    special: Literal["", "gemma4", "deepseek_v4", "nemotron_h"] = ""  # layers that are put together in their own way


_DEEPSEEK: Final = Family(
    latent=True, bias="asked", output_bias="asked", sparse="rules", correction=True, mtp="deepseek"
)
_LLAMA: Final = Family(bias="asked", output_bias="asked")
_MISTRAL: Final = Family(layout="windowed")
_QWEN3: Final = Family(qk_norm="head", bias="asked", output_bias="asked", layout="qwen")
_GATED_DELTA: Final = Family(
    qk_norm="head", bias="asked", output_bias="asked", gate="always", layout="interval", sparse="rules",
    shared_gate=True, mtp="qwen",
)  # fmt: skip
_GEMMA: Final = Family(
    tied=True, norms=4, qk_norm="head", bias="asked", output_bias="asked", layout="pattern",
)  # fmt: skip
_NEMOTRON_H: Final = Family(
    norms=1, gated_mlp=False, sparse="rules", correction=True, mtp="nemotron", special="nemotron_h"
)
_GRANITE: Final = Family(bias="asked", output_bias="asked")

FAMILIES: Final = {
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "ministral3": _MISTRAL,
    "mixtral": Family(layout="windowed", sparse="all"),
    "qwen2": Family(bias="always", layout="qwen"),
    "qwen2_moe": Family(bias="always", layout="qwen", sparse="rules", shared_gate=True),
    "qwen2_5_vl_text": Family(bias="always", layout="qwen"),
    "qwen3": _QWEN3,
    "qwen3_moe": Family(qk_norm="head", bias="asked", output_bias="asked", layout="qwen", sparse="rules"),
    "qwen3_vl_text": _QWEN3,
    "qwen3_vl_moe_text": Family(qk_norm="head", bias="asked", output_bias="asked", sparse="rules"),
    "qwen3_next": _GATED_DELTA,
    "qwen3_5_text": _GATED_DELTA,
    "qwen3_5_moe_text": _GATED_DELTA,
    "phi3": Family(layout="windowed"),
    "granite": _GRANITE,
    "granitemoe": Family(bias="asked", output_bias="asked", sparse="all"),
    "granitemoeshared": Family(bias="asked", output_bias="asked", sparse="all"),
    "granitemoehybrid": Family(bias="asked", output_bias="asked", sparse="rules"),
    "gemma": Family(tied=True, bias="asked", output_bias="asked"),
    "gemma2": Family(tied=True, norms=4, bias="asked", output_bias="asked", layout="alternating"),
    "gemma3_text": _GEMMA,
    "gemma4_text": replace(_GEMMA, special="gemma4"),
    "gemma4_unified_text": replace(_GEMMA, special="gemma4"),
    "glm": Family(bias="asked"),
    "glm4": Family(norms=4, bias="asked"),
    "glm4_moe": Family(bias="asked", sparse="rules", correction=True, mtp="deepseek"),
    "deepseek_v2": Family(latent=True, bias="asked", output_bias="asked", sparse="rules"),
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK,
    "deepseek_v4": Family(special="deepseek_v4", mtp="deepseek"),
    "kimi_k2": _DEEPSEEK,
    "glm4_moe_lite": _DEEPSEEK,
    "glm_moe_dsa": _DEEPSEEK,
    "mistral4": Family(latent=True, bias="asked", output_bias="asked", sparse="rules"),
    "kimi_linear": Family(latent=True, layout="delta-list", sparse="rules", correction=True),
    "gpt_oss": Family(bias="always", output_bias="always", sinks=True, sparse="all", expert_bias=True),
    "minimax": Family(layout="lightning", sparse="all"),
    "minimax_m2": Family(qk_norm="whole", sparse="all", correction=True),
    "laguna": Family(
        qk_norm="head", bias="asked", output_bias="asked", gate="per-head", sparse="rules", correction=True
    ),
    "muse_glimmer_text": Family(norms=4, bias="asked", output_bias="asked", gate="always"),
    "lfm2": Family(tied=True, qk_norm="head", layout="short-conv"),
    "lfm2_moe": Family(tied=True, qk_norm="head", layout="short-conv", sparse="rules", correction=True),
    "nemotron_h": _NEMOTRON_H,
    "llama4_text": Family(bias="asked", output_bias="asked", layout="chunked", sparse="rules"),
    "olmo2": Family(qk_norm="whole", bias="asked", output_bias="asked"),
    "olmo3": Family(qk_norm="whole", bias="asked", output_bias="asked"),
    "olmoe": Family(qk_norm="whole", bias="asked", output_bias="asked", sparse="all"),
    "smollm3": replace(_LLAMA, tied=True),
    "seed_oss": _LLAMA,
    "exaone4": Family(qk_norm="head", layout="pattern"),
    "cohere2": Family(tied=True, norms=1, bias="asked", output_bias="asked", layout="pattern"),
    "solar_open": Family(bias="asked", sparse="rules", correction=True),
    "hy_v3": Family(qk_norm="head", bias="asked", output_bias="asked", sparse="rules", correction=True),
    "ernie4_5_moe": Family(tied=True, sparse="rules", correction=True),
    "mimo_v2_flash": Family(bias="asked", sparse="rules", correction=True, layout="pattern"),
}  # fmt: skip

# model_type of the whole -> of its language model, where the text section does not say it.
ALIASES: Final = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text",
    "qwen2_5_vl": "qwen2_5_vl_text",
    "mistral3": "mistral",
    "muse_glimmer": "muse_glimmer_text",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "kimi_k25": "kimi_k2",
    "kimi_vl": "deepseek_v3",
}
