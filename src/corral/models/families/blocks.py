"""Puts the layers of a config.json together, one block each; knows no file."""

from corral.models.architecture import Attention, Block, FeedForward, Mixer, Recurrent
from corral.models.families.deepseek_v4 import deepseek_v4_blocks, deepseek_v4_extra
from corral.models.families.feedforward import correction, dense, experts
from corral.models.families.gemma4 import gemma4_blocks, gemma4_extra
from corral.models.families.layers import Kind, layer_kinds, layer_words, sparse_layers
from corral.models.families.mixers import attention, latent, surplus
from corral.models.families.recurrent import gated_delta_net, kimi_delta, lightning, mamba2, short_convolution
from corral.models.families.traits import Family
from corral.models.fields import Fields


def blocks_of(fields: Fields, family: Family, layers: int) -> tuple[Block, ...]:
    """One block a layer."""
    if family.special == "deepseek_v4":
        return deepseek_v4_blocks(fields, layers)
    kinds = layer_kinds(fields, family, layers)
    if family.special == "gemma4":
        return gemma4_blocks(fields, family, kinds)
    if family.special == "nemotron_h":
        return _nemotron_h(fields, family, kinds)
    sparse = sparse_layers(fields, family, layers)
    heads = fields.counts("heads", "num_attention_heads_per_layer", layers) or (None,) * layers
    made: dict[tuple[object, ...], Block] = {}
    indexers = fields.items("indexer_types") or ()
    result: list[Block] = []
    for index, key in enumerate(zip(kinds, sparse, heads, strict=True)):
        one = (*key, str(indexers[index]) if index < len(indexers) else None)
        if one not in made:
            made[one] = _block(fields, family, key[0], sparse=key[1], heads=key[2], layer=index)
        result.append(made[one])
    return tuple(result)


def extra_of(fields: Fields, layers: int, family: Family) -> int:
    """Parameters outside of layers, the embedding and the head."""
    match family.special:
        case "gemma4":
            return gemma4_extra(fields, layers)
        case "deepseek_v4":
            return deepseek_v4_extra(fields)
        case _:
            return 0


def _block(fields: Fields, family: Family, kind: Kind, *, sparse: bool, heads: int | None, layer: int) -> Block:
    mixer = _mixer(fields, family, kind, heads, layer)
    extra = surplus(fields, family, mixer) if isinstance(mixer, Attention) else 0
    if sparse:
        extra += correction(fields, family)
    return Block(
        mixer=mixer, feed_forward=_feed_forward(fields, family, sparse=sparse), norms=family.norms, extra=extra
    )


def _mixer(fields: Fields, family: Family, kind: Kind, heads: int | None, layer: int) -> Mixer | None:
    if kind == "none":
        return None
    if kind in {"full", "window"}:
        if family.latent:
            return latent(fields, family, layer)
        return attention(fields, family, windowed=kind == "window", heads=heads)
    if kind == "linear":
        return _linear(fields, family)
    return mamba2(fields) if kind == "mamba" else short_convolution(fields)


def _linear(fields: Fields, family: Family) -> Recurrent:
    """What a family calls linear attention."""
    if family.layout == "lightning":
        return lightning(fields)
    if family.layout == "delta-list":
        return kimi_delta(fields)
    return gated_delta_net(fields) if fields.has("linear_num_key_heads") else mamba2(fields)


def _feed_forward(fields: Fields, family: Family, *, sparse: bool) -> FeedForward:
    return experts(fields, family) if sparse else dense(fields, family)


def _nemotron_h(fields: Fields, family: Family, kinds: tuple[Kind, ...]) -> tuple[Block, ...]:
    """Nemotron-H: each layer either mixes tokens or works on each of them, behind one norm."""
    words = layer_words(fields) or list(fields.words("layer_types", len(kinds)) or ())
    if len(words) != len(kinds):
        raise fields.refused("hybrid_override_pattern", f"names {len(words)} of {len(kinds)} layers")
    made: dict[str, Block] = {}
    for word, kind in zip(words, kinds, strict=True):
        if word in made:
            continue
        if kind == "none":
            part = _feed_forward(fields, family, sparse=word == "moe")
            extra = correction(fields, family) if word == "moe" else 0
            made[word] = Block(feed_forward=part, norms=family.norms, extra=extra)
        else:
            made[word] = Block(mixer=_mixer(fields, family, kind, None, 0), norms=family.norms)
    return tuple(made[word] for word in words)
