"""Vision and audio towers and projectors out of config.json: their parameters, and nothing of what they see.

Each follows the reference implementation of its model_type (PyPI package transformers 5.23.0).
"""

from collections.abc import Callable
from typing import Final

from corral.models.fields import Fields


def towers(top: Fields, hidden: int) -> tuple[int, tuple[str, ...]]:
    """Parameters of all towers and their projectors into the model's hidden size, and what is assumed."""
    counts, notes = _vision(top, hidden)
    audio = top.section("audio_config")
    if audio is None:
        return counts, notes
    if str(audio.values.get("model_type")) == "gemma4_audio":
        return counts + _gemma4_audio(audio, hidden), notes
    return counts, (*notes, "The audio tower is not counted.")


def _vision(top: Fields, hidden: int) -> tuple[int, tuple[str, ...]]:
    fields = top.section("vision_config")
    if fields is None:
        return 0, ()
    if not any(fields.has(key) for key in ("hidden_size", "vt_hidden_size", "mm_embed_dim")):
        return 0, ("The vision tower is not counted: config.json does not give its size.",)
    kind = str(fields.values.get("model_type") or top.values.get("model_type") or "")
    for start, count in _KINDS:
        if kind.startswith(start):
            return count(fields, top, hidden), ()
    return _usual(fields, hidden), ("The vision tower is counted as a plain transformer: within some percent.",)


def _width(fields: Fields) -> int:
    return fields.count("hidden", "hidden_size", "vt_hidden_size")


def _depth(fields: Fields) -> int:
    return fields.count("layers", "num_hidden_layers", "depth", "vt_num_hidden_layers")


def _inner(fields: Fields) -> int:
    return fields.count("width", "intermediate_size", "vt_intermediate_size")


def _patch(fields: Fields, default: int) -> int:
    return fields.count("head_dim", "patch_size", default=default)


def _biased_layers(fields: Fields) -> int:
    """Layers of two norms, four projections and a plain feed-forward part, all with biases."""
    width, inner = _width(fields), _inner(fields)
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    return _depth(fields) * layer


def _qwen(fields: Fields, _: Fields, __: int) -> int:
    """Qwen3-VL and Qwen3.5: one merger, and one more for every deep stack."""
    width = _width(fields)
    merged = width * fields.count("head_dim", "spatial_merge_size", default=2) ** 2
    out = fields.count("hidden", "out_hidden_size")
    volume = 3 * _patch(fields, 16) ** 2 * fields.count("head_dim", "temporal_patch_size", default=2)
    merger = merged * merged + merged + merged * out + out
    deep = len(fields.items("deepstack_visual_indexes") or ())
    positions = fields.count("width", "num_position_embeddings", default=2304) * width
    return (
        _biased_layers(fields) + volume * width + width + positions + merger + 2 * width + deep * (merger + 2 * merged)
    )


def _siglip(fields: Fields, _: Fields, hidden: int) -> int:
    """SigLIP without its pooling head, as in Gemma 3, whose projector is a norm and a matrix."""
    width, patch = _width(fields), _patch(fields, 14)
    positions = (fields.count("width", "image_size", default=896) // patch) ** 2
    projector = width * hidden + width
    return _biased_layers(fields) + 3 * patch * patch * width + width + positions * width + 2 * width + projector


def _gemma4(fields: Fields, _: Fields, hidden: int) -> int:
    width = _width(fields)
    heads = fields.count("heads", "num_attention_heads")
    dimension = fields.count("head_dim", "head_dim", default=max(1, width // heads))
    kv_heads = fields.count("kv_heads", "num_key_value_heads", default=heads)
    layer = 2 * width * dimension * (heads + kv_heads) + 3 * width * _inner(fields) + 4 * width + 2 * dimension
    positions = 2 * fields.count("width", "position_embedding_size", default=10240) * width
    standard = 2 * width * fields.flag("standardize")
    return _depth(fields) * layer + 3 * _patch(fields, 16) ** 2 * width + positions + standard + width * hidden


def _gemma4_unified(fields: Fields, _: Fields, hidden: int) -> int:
    """Gemma 4 12B has no tower: patches are projected right into the embedding's space."""
    width = fields.count("hidden", "mm_embed_dim")
    patch = 3 * (_patch(fields, 16) * fields.count("head_dim", "pooling_kernel_size", default=3)) ** 2
    positions = 2 * fields.count("width", "mm_posemb_size", default=1120) * width
    return positions + 2 * patch + patch * width + width + 4 * width + width * hidden


def _gemma4_audio(fields: Fields, hidden: int) -> int:
    """Gemma 4's audio tower: a conformer behind two convolutions that take a quarter of 128 bands each way."""
    width = _width(fields)
    heads = fields.count("heads", "num_attention_heads")
    outer, inner = fields.counts("width", "subsampling_conv_channels", 2) or (128, 32)
    kernel = fields.count("head_dim", "conv_kernel_size", default=5)
    out = fields.count("hidden", "output_proj_dims", default=1536)
    front = 10 * outer + 9 * outer * inner + inner + 32 * inner * width
    layer = 24 * width * width + (9 + kernel) * width + max(1, width // heads)
    return front + _depth(fields) * layer + out * width + out + out * hidden


def _pixtral(fields: Fields, top: Fields, hidden: int) -> int:
    """Pixtral as in Mistral 3 and Ministral 3: patches are merged by four before the projector."""
    width = _width(fields)
    layer = 4 * width * width + 3 * width * _inner(fields) + 2 * width
    merge = top.count("head_dim", "spatial_merge_size", default=2) ** 2
    bias = hidden * 2 * top.flag("multimodal_projector_bias")
    projector = width + merge * width * width + width * hidden + hidden * hidden + bias
    return _depth(fields) * layer + 3 * _patch(fields, 16) ** 2 * width + width + projector


def _moonvit(fields: Fields, _: Fields, hidden: int) -> int:
    """MoonViT as in Kimi K2.5, whose projector works on merged patches."""
    width = _width(fields)
    positions = fields.count("width", "init_pos_emb_height", default=64) * fields.count(
        "width", "init_pos_emb_width", default=64
    )
    merge = fields.counts("head_dim", "merge_kernel_size", 2) or (2, 2)
    merged = width * merge[0] * merge[1]
    projector = 2 * width + merged * merged + merged + merged * hidden + hidden
    patch = 3 * _patch(fields, 14) ** 2 * width + width
    return _biased_layers(fields) + patch + positions * width + 2 * width + projector


def _muse(fields: Fields, top: Fields, hidden: int) -> int:
    """Muse Glimmer's tower, adapter and projection."""
    width = _width(fields)
    patch = 3 * _patch(fields, 14) ** 2 * fields.count("head_dim", "patch_temporal", default=2)
    positions = fields.count("width", "pos_emb_height", default=32) * fields.count("width", "pos_emb_width", default=32)
    middle = top.count("width", "projector_hidden_size", default=4096)
    adapter = middle * top.count("width", "out_hidden_size", default=6144) + middle * middle + middle * hidden
    return _biased_layers(fields) + (patch + positions) * width + 4 * width + adapter


def _llama4(fields: Fields, _: Fields, hidden: int) -> int:
    """Llama 4's tower: one class token, an adapter on shuffled patches, a projector without bias."""
    width, patch = _width(fields), _patch(fields, 14)
    positions = (fields.count("width", "image_size", default=336) // patch) ** 2 + 1
    inward = fields.count("width", "projector_input_dim", default=4096)
    outward = fields.count("width", "projector_output_dim", default=4096)
    adapter = _inner(fields) * inward + outward * outward
    projector = fields.count("width", "vision_output_dim", default=4096) * hidden
    return _biased_layers(fields) + (positions + 1 + 3 * patch * patch + 4) * width + adapter + projector


def _usual(fields: Fields, hidden: int) -> int:
    width = _width(fields)
    return _biased_layers(fields) + 3 * _patch(fields, 14) ** 2 * width + 5 * width * width + width * hidden


# The start of a tower's model_type -> what counts it from its own fields, the whole's and the hidden size.
_KINDS: Final[tuple[tuple[str, Callable[[Fields, Fields, int], int]], ...]] = (
    ("qwen3_vl", _qwen),
    ("qwen3_5", _qwen),
    ("siglip", _siglip),
    ("gemma4_unified", _gemma4_unified),
    ("gemma4", _gemma4),
    ("pixtral", _pixtral),
    ("kimi_k25", _moonvit),
    ("muse_glimmer", _muse),
    ("llama4", _llama4),
)
