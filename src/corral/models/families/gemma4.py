"""Gemma 4's own ways: heads of two sizes, shared keys and values, inputs to every layer; knows no other family."""

from corral.models.architecture import Attention, Block, Experts
from corral.models.families.feedforward import dense
from corral.models.families.layers import Kind, has_experts
from corral.models.families.mixers import check_heads
from corral.models.families.traits import Family
from corral.models.fields import Fields


def gemma4_blocks(fields: Fields, family: Family, kinds: tuple[Kind, ...]) -> tuple[Block, ...]:
    """One block a layer."""
    shared = fields.count("layers", "num_kv_shared_layers", default=0, least=0)
    if shared >= len(kinds):
        raise fields.refused("num_kv_shared_layers", f"is {shared} of {len(kinds)} layers, so none has keys of its own")
    first = len(kinds) - shared
    full = (*kinds[:-1], "full")  # the last layer always attends to all
    return tuple(_block(fields, family, windowed=kind == "window", shares=i >= first) for i, kind in enumerate(full))


def _block(fields: Fields, family: Family, *, windowed: bool, shares: bool) -> Block:
    hidden = fields.count("hidden", "hidden_size")
    inputs = fields.count("hidden", "hidden_size_per_layer_input", default=0, least=0)
    sparse = fields.flag("enable_moe_block") and has_experts(fields)
    widened = 2 if shares and fields.flag("use_double_wide_mlp") else 1
    mlp = dense(fields, family, widened=widened)
    return Block(
        mixer=_attention(fields, windowed=windowed, shares=shares),
        feed_forward=_experts(fields, mlp.width) if sparse else mlp,
        norms=4 + bool(inputs) + 3 * sparse,
        # The layer's scalar, what takes its inputs in, and the scales of the router.
        extra=1 + 2 * hidden * inputs + (hidden + fields.count("experts", "num_experts", default=0)) * sparse,
    )


def _attention(fields: Fields, *, windowed: bool, shares: bool) -> Attention:
    heads = fields.count("heads", "num_attention_heads")
    kv_heads = fields.count("kv_heads", "num_key_value_heads", default=heads)
    dimension = fields.count("head_dim", "head_dim")
    from_keys = not windowed and fields.flag("attention_k_eq_v")
    if not windowed:
        dimension = fields.count("head_dim", "global_head_dim", default=512)
        kv_heads = fields.count("kv_heads", "num_global_key_value_heads", default=kv_heads) if from_keys else kv_heads
    check_heads(fields, heads, kv_heads)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dimension,
        value_dim=dimension,
        window=fields.count("window", "sliding_window", default=512) if windowed else None,
        bias=fields.flag("attention_bias"),
        output_bias=fields.flag("attention_bias"),
        qk_norm=True,
        shares_kv=shares,
        values_from_keys=from_keys,
    )


def _experts(fields: Fields, beside: int) -> Experts:
    count = fields.count("experts", "num_experts")
    active = fields.count("experts", "top_k_experts")
    if active > count:
        raise fields.refused("top_k_experts", f"is {active}, which is more than the {count} experts")
    return Experts(
        experts=count,
        active=active,
        width=fields.count("width", "moe_intermediate_size", "expert_intermediate_size"),
        parallel_mlp=beside,
    )


def gemma4_extra(fields: Fields, layers: int) -> int:
    """Parameters outside of layers: the table of per-layer inputs, the projection to them and its norm."""
    inputs = fields.count("hidden", "hidden_size_per_layer_input", default=0, least=0)
    if not inputs:
        return 0
    vocabulary = fields.count("vocabulary", "vocab_size_per_layer_input", "vocab_size")
    return (vocabulary + fields.count("hidden", "hidden_size")) * layers * inputs + inputs
