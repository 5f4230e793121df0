"""Vision towers and projectors out of config.json's vision_config: their parameters, and nothing of what they see."""

from corral.models.fields import Fields


def vision(top: Fields, hidden: int) -> tuple[int, tuple[str, ...]]:
    """Parameters of the tower and its projector into the model's hidden size, and what is assumed."""
    fields = top.section("vision_config")
    if fields is None:
        return 0, ()
    if not (fields.has("hidden_size") or fields.has("vt_hidden_size")):
        return 0, ("The vision tower is not counted: config.json does not give its size.",)
    kind = str(fields.values.get("model_type") or top.values.get("model_type") or "")
    exact = _exact(kind, fields, top, hidden)
    if exact:
        return exact, ()
    return _usual(fields, hidden), ("The vision tower is counted as a plain transformer: within some percent.",)


def _exact(kind: str, fields: Fields, top: Fields, hidden: int) -> int:
    """Parameters of the kinds whose reference implementation is followed; 0 for others."""
    if kind.startswith(("qwen3_vl", "qwen3_5")):
        return _qwen(fields)
    if kind.startswith("siglip"):
        return _siglip(fields) + _width(fields) * hidden
    if kind.startswith("gemma4"):
        return _gemma4(fields) + _width(fields) * hidden
    if kind == "pixtral":
        return _pixtral(fields, top, hidden)
    return 0


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


def _qwen(fields: Fields) -> int:
    """Qwen3-VL and Qwen3.5: one merger, and one more for every deep stack."""
    width = _width(fields)
    merged = width * fields.count("head_dim", "spatial_merge_size", default=2) ** 2
    out = fields.count("hidden", "out_hidden_size")
    volume = 3 * _patch(fields, 16) ** 2 * fields.count("head_dim", "temporal_patch_size", default=2)
    merger = merged * merged + merged + merged * out + out
    deep = len(fields.items("deepstack_visual_indexes") or ())
    return (
        _biased_layers(fields)
        + volume * width
        + width
        + fields.count("width", "num_position_embeddings", default=2304) * width
        + merger
        + 2 * width
        + deep * (merger + 2 * merged)
    )


def _siglip(fields: Fields) -> int:
    """SigLIP as in Gemma 3, with the norm of its projector."""
    width, patch = _width(fields), _patch(fields, 14)
    positions = (fields.count("width", "image_size", default=896) // patch) ** 2
    return _biased_layers(fields) + 3 * patch * patch * width + width + positions * width + 2 * width


def _gemma4(fields: Fields) -> int:
    width = _width(fields)
    heads = fields.count("heads", "num_attention_heads")
    dimension = fields.count("head_dim", "head_dim", default=max(1, width // heads))
    kv_heads = fields.count("kv_heads", "num_key_value_heads", default=heads)
    layer = 2 * width * dimension * (heads + kv_heads) + 3 * width * _inner(fields) + 4 * width + 2 * dimension
    positions = 2 * fields.count("width", "position_embedding_size", default=10240) * width
    standard = 2 * width * fields.flag("standardize")
    return _depth(fields) * layer + 3 * _patch(fields, 16) ** 2 * width + positions + standard


def _pixtral(fields: Fields, top: Fields, hidden: int) -> int:
    """Pixtral as in Mistral 3 and Ministral 3: patches are merged by four before the projector."""
    width = _width(fields)
    layer = 4 * width * width + 3 * width * _inner(fields) + 2 * width
    merge = top.count("head_dim", "spatial_merge_size", default=2) ** 2
    bias = hidden * 2 * top.flag("multimodal_projector_bias")
    projector = width + merge * width * width + width * hidden + hidden * hidden + bias
    return _depth(fields) * layer + 3 * _patch(fields, 16) ** 2 * width + width + projector


def _usual(fields: Fields, hidden: int) -> int:
    width = _width(fields)
    return _biased_layers(fields) + 3 * _patch(fields, 14) ** 2 * width + 5 * width * width + width * hidden
