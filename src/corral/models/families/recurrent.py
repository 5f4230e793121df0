"""Layers whose state does not grow out of config.json's keys: Mamba 2, delta nets, short convolutions, lightning.

A convolution keeps its kernel's size less one of its inputs, as engines do.
"""

from math import gcd

from corral.models.architecture import Recurrent
from corral.models.fields import Fields


def mamba2(fields: Fields) -> Recurrent:
    """Mamba 2 as in Nemotron-H and Granite 4 hybrids."""
    hidden = fields.count("hidden", "hidden_size")
    heads = fields.count("heads", "mamba_num_heads", "mamba_n_heads")
    inner = heads * _mamba_head(fields, hidden, heads)
    groups = fields.count("heads", "n_groups", "mamba_n_groups", default=1)
    state = fields.count("width", "ssm_state_size", "mamba_d_state")
    kernel = fields.count("head_dim", "conv_kernel", "mamba_d_conv", default=4)
    mixed = inner + 2 * groups * state
    made = inner + mixed + heads
    bias = fields.flag("use_bias", "mamba_proj_bias")
    return Recurrent(
        family="mamba2",
        parameters=hidden * made
        + (made + hidden) * bias
        + mixed * (kernel + fields.flag("use_conv_bias", "mamba_conv_bias", default=True))
        + 3 * heads
        + inner
        + inner * hidden,
        state_values=inner * state,
        conv_values=mixed * (kernel - 1),
        heads=heads,
    )


def _mamba_head(fields: Fields, hidden: int, heads: int) -> int:
    if fields.has("mamba_head_dim") or isinstance(fields.values.get("mamba_d_head"), int):
        return fields.count("head_dim", "mamba_head_dim", "mamba_d_head")
    inner = hidden * fields.count("head_dim", "mamba_expand", "expand", default=2)
    if inner % heads:
        raise fields.refused("mamba_n_heads", f"is {heads}, which does not divide the inner size {inner}")
    return inner // heads


def gated_delta_net(fields: Fields) -> Recurrent:
    """Gated delta net as in Qwen3-Next and Qwen3.5."""
    hidden = fields.count("hidden", "hidden_size")
    key_heads = fields.count("heads", "linear_num_key_heads")
    value_heads = fields.count("heads", "linear_num_value_heads")
    key_dim = fields.count("head_dim", "linear_key_head_dim")
    value_dim = fields.count("head_dim", "linear_value_head_dim")
    kernel = fields.count("head_dim", "linear_conv_kernel_dim")
    if value_heads % key_heads:
        raise fields.refused(
            "linear_num_key_heads", f"is {key_heads}, which does not divide the {value_heads} value heads"
        )
    value = value_heads * value_dim
    mixed = 2 * key_heads * key_dim + value
    return Recurrent(
        family="delta-net",
        parameters=hidden * (mixed + value + 2 * value_heads)
        + mixed * kernel
        + 2 * value_heads
        + value_dim
        + value * hidden,
        state_values=value_heads * key_dim * value_dim,
        conv_values=mixed * (kernel - 1),
        heads=gcd(key_heads, value_heads),
    )


def kimi_delta(fields: Fields) -> Recurrent:
    """Kimi delta attention: queries, keys and values each with a convolution, gates through a head's size."""
    hidden = fields.count("hidden", "hidden_size")
    section = fields.section("linear_attn_config") or Fields(
        fields.file,
        {
            "num_heads": fields.values.get("linear_num_heads"),
            "head_dim": fields.values.get("linear_head_dim"),
            "short_conv_kernel_size": fields.values.get("linear_conv_kernel_dim"),
        },
    )
    heads = section.count("heads", "num_heads", default=32)
    dimension = section.count("head_dim", "head_dim", default=128)
    kernel = section.count("head_dim", "short_conv_kernel_size", default=4)
    inner = heads * dimension
    narrow = hidden * dimension + dimension * inner
    gate = hidden * inner if section.flag("use_full_rank_gate") else narrow
    return Recurrent(
        family="delta-net",
        parameters=4 * hidden * inner + 3 * inner * kernel + narrow + gate + inner + heads + hidden * heads + dimension,
        state_values=heads * dimension * dimension,
        conv_values=3 * inner * (kernel - 1),
        heads=heads,
    )


def short_convolution(fields: Fields) -> Recurrent:
    """The gated short convolution of LFM2: its only state is the convolution's."""
    hidden = fields.count("hidden", "hidden_size")
    kernel = fields.count("head_dim", "conv_L_cache", default=3)
    bias = fields.flag("conv_bias")
    return Recurrent(
        family="short-conv",
        parameters=4 * hidden * hidden + hidden * kernel + 5 * hidden * bias,
        state_values=0,
        conv_values=hidden * (kernel - 1),
        heads=hidden,
    )


def lightning(fields: Fields) -> Recurrent:
    """Lightning attention of MiniMax-Text-01 and M1: linear attention with an output gate."""
    hidden = fields.count("hidden", "hidden_size")
    heads = fields.count("heads", "num_attention_heads")
    dimension = fields.count("head_dim", "head_dim", default=max(1, hidden // heads))
    inner = heads * dimension
    return Recurrent(
        family="lightning",
        parameters=5 * hidden * inner + inner,
        state_values=heads * dimension * dimension,
        heads=heads,
    )
