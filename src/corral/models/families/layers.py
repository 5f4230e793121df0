"""Which layer is of which kind, whatever the way a config.json says it; knows no sizes."""

from typing import Final, Literal, TypeAlias

from corral.errors import BadInput
from corral.models.families.traits import Family
from corral.models.fields import Fields

# What mixes tokens in a layer. "window" covers sliding and chunked attention: both keep a bounded number of tokens.
Kind: TypeAlias = Literal["full", "window", "linear", "mamba", "conv", "none"]

_WORDS: Final[dict[str, Kind]] = {
    "full_attention": "full", "attention": "full", "indexed_attention": "full",
    "deepseek_sparse_attention": "full",
    "sliding_attention": "window", "chunked_attention": "window", "local_attention": "window",
    "linear_attention": "linear", "mamba": "mamba", "mamba2": "mamba", "conv": "conv", "short_conv": "conv",
    "moe": "none", "mlp": "none",
}  # fmt: skip
_LETTERS: Final = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}  # Nemotron-H's pattern


def layer_words(fields: Fields, key: str = "layers_block_type", pattern: str = "hybrid_override_pattern") -> list[str]:
    """Nemotron-H's layers as words, from the list or from the pattern of letters; empty when there is neither."""
    listed = fields.items(key)
    if listed is not None:
        return [str(word) for word in listed]
    letters = fields.values.get(pattern)
    if not isinstance(letters, str):
        return []
    if unknown := set(letters) - set(_LETTERS):
        raise fields.refused(pattern, f"has the unknown letter {min(unknown)!r}")
    return [_LETTERS[letter] for letter in letters]


def layer_count(fields: Fields) -> int:
    """Number of layers, from the number or from the list of their kinds."""
    if fields.has("num_hidden_layers") or not layer_words(fields):
        return fields.count("layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    return fields.count("layers", "layers", default=len(layer_words(fields)))


def layer_kinds(fields: Fields, family: Family, layers: int) -> tuple[Kind, ...]:
    """The kind of each layer. BadInput when config.json names a kind that is not known, or too few of them."""
    hybrid = fields.counts("layers", "hybrid_layer_pattern", layers)
    if hybrid:
        return tuple("window" if sliding else "full" for sliding in hybrid)
    words = fields.words("layer_types", layers) or tuple(layer_words(fields))
    if not words:
        return _by_rule(fields, family, layers)
    if len(words) != layers:
        raise fields.refused("num_hidden_layers", f"is {layers}, but {len(words)} layers are named")
    for word in words:
        if word not in _WORDS:
            raise BadInput(
                f"{fields.file}: a layer is of the kind {word[:40]!r}, which this version of Corral does not know.",
                "Update Corral.",
            )
    return tuple(_WORDS[word] for word in words)


def _by_rule(fields: Fields, family: Family, layers: int) -> tuple[Kind, ...]:
    """Families' own rules, where no list names each layer."""
    match family.layout:
        case "interval":
            return _every(fields.count("layers", "full_attention_interval", default=4), layers, "linear")
        case "chunked":
            return _chunked(fields, layers)
        case "lightning":
            return _lightning(fields, layers)
        case "short-conv":
            return _named(fields, "full_attn_idxs", layers, rest="conv", first=0)
        case "delta-list":
            section = fields.section("linear_attn_config") or fields
            return _named(section, "full_attn_layers", layers, rest="linear", first=1)
        case _:
            return _windowed(fields, family, layers)


def _lightning(fields: Fields, layers: int) -> tuple[Kind, ...]:
    types = fields.counts("layers", "attn_type_list", layers)
    return tuple("full" if kind else "linear" for kind in types) if types else _every(2, layers, "linear")


def _windowed(fields: Fields, family: Family, layers: int) -> tuple[Kind, ...]:
    """Which layers slide, in families where some or all may."""
    if family.layout == "full" or not fields.has("sliding_window"):
        return ("full",) * layers
    if family.layout == "windowed":
        return ("window",) * layers
    if family.layout == "qwen":
        first = fields.count("layers", "max_window_layers", default=layers, least=0)
        return tuple(
            "full" if index < first or not fields.flag("use_sliding_window") else "window" for index in range(layers)
        )
    every = fields.count("layers", "sliding_window_pattern", "_sliding_window_pattern", default=6)
    return _every(2 if family.layout == "alternating" else every, layers, "window")


def _every(step: int, layers: int, rest: Kind) -> tuple[Kind, ...]:
    return tuple(rest if (index + 1) % step else "full" for index in range(layers))


def _chunked(fields: Fields, layers: int) -> tuple[Kind, ...]:
    """Llama 4: layers with rotary positions attend within chunks, the others to all."""
    rotary = fields.counts("layers", "no_rope_layers", layers)
    if rotary:
        return tuple("window" if kind else "full" for kind in rotary)
    return _every(fields.count("layers", "no_rope_layer_interval", default=4), layers, "window")


def _named(fields: Fields, key: str, layers: int, *, rest: Kind, first: int) -> tuple[Kind, ...]:
    """Full attention in the layers whose numbers, counted from `first`, stand under `key`."""
    listed = fields.items(key)
    if listed is None:
        raise fields.refused(key, "is missing")
    full = {item for item in listed if isinstance(item, int)}
    return tuple("full" if index + first in full else rest for index in range(layers))


def sparse_layers(fields: Fields, family: Family, layers: int) -> tuple[bool, ...]:
    """For each layer whether its feed-forward part is a mixture of experts."""
    if family.sparse == "never" or not has_experts(fields):
        return (False,) * layers
    if family.sparse == "all":
        return (True,) * layers
    if named := fields.words("mlp_layer_types", layers):
        return tuple(word != "dense" for word in named)
    frequency = fields.counts("layers", "moe_layer_freq", layers)
    if frequency:
        return tuple(bool(step) for step in frequency)
    dense = fields.count(
        "layers", "first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", default=0, least=0
    )
    step = fields.count(
        "layers", "moe_layer_freq", "decoder_sparse_step", "interleave_moe_layer_step", default=1, least=0
    )
    shift = 0 if fields.has("moe_layer_freq") else 1  # DeepSeek counts layers from 0, Qwen and Llama from 1
    without, included = fields.items("mlp_only_layers") or (), fields.items("moe_layers")
    if included:
        return tuple(index in included for index in range(layers))
    return tuple(
        index >= dense and step > 0 and (index + shift) % step == 0 and index not in without for index in range(layers)
    )


EXPERT_KEYS: Final = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


def has_experts(fields: Fields) -> bool:
    """Whether there are any experts at all."""
    return fields.count("experts", *EXPERT_KEYS, default=0, least=0) > 0
