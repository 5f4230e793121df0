"""Dense and expert feed-forward layers out of config.json's keys; knows no layer but the one asked for."""

from corral.models.architecture import Experts, Mlp
from corral.models.families.layers import EXPERT_KEYS
from corral.models.families.traits import Family
from corral.models.fields import Fields

_ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_topk", "moe_k")


def dense(fields: Fields, family: Family, *, widened: int = 1) -> Mlp:
    """A dense layer; `widened`: that many times the stated width."""
    return Mlp(
        width=widened * _width(fields),
        gated=family.gated_mlp,
        bias=fields.flag("mlp_bias"),
    )


def _width(fields: Fields) -> int:
    keys = ("intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner")
    if fields.flag("block_auto_adjust_ff_dim") and not fields.has("num_dense_layers"):
        return _adjusted(fields)
    if fields.count("experts", *EXPERT_KEYS, default=0, least=0) == 0 and fields.has("shared_intermediate_size"):
        return fields.count("width", "shared_intermediate_size")  # Granite hybrids without experts
    return fields.count("width", *keys)


def _adjusted(fields: Fields) -> int:
    """LFM2's rule: two thirds, times a factor, rounded up to a multiple."""
    width = 2 * fields.count("width", "block_ff_dim", "intermediate_size") // 3
    factor = fields.values.get("block_ffn_dim_multiplier")
    if isinstance(factor, int | float):
        if not 0 < factor <= 1000:
            raise fields.refused("block_ffn_dim_multiplier", f"is {factor}, where 0 to 1000 is expected")
        multiple = fields.count("width", "block_multiple_of", default=256)
        width = -(-int(factor * width) // multiple) * multiple
    return max(1, width)


def experts(fields: Fields, family: Family) -> Experts:
    """A mixture of experts. BadInput when more experts are to be active than there are."""
    count = fields.count("experts", *EXPERT_KEYS)
    active = fields.count("experts", *_ACTIVE)
    if active > count:
        raise fields.refused(_ACTIVE[0], f"is {active}, which is more than the {count} experts")
    return Experts(
        experts=count,
        active=active,
        width=expert_width(fields),
        shared_width=_shared(fields),
        shared_gate=family.shared_gate,
        latent=fields.count("hidden", "moe_latent_size", "routed_expert_hidden_size", default=0, least=0),
        gated=family.gated_mlp,
        bias=family.expert_bias,
    )


def expert_width(fields: Fields) -> int:
    """Width of one routed expert; where it is not stated, all feed-forward layers are experts."""
    return fields.count("width", "moe_intermediate_size", "intermediate_size")


def _shared(fields: Fields) -> int:
    """Width of all shared experts together, stated as a width or as a number of experts."""
    stated = fields.count(
        "width",
        "moe_shared_expert_intermediate_size",
        "shared_expert_intermediate_size",
        "shared_intermediate_size",
        default=0,
        least=0,
    )
    if stated:
        return stated
    if fields.has("interleave_moe_layer_step"):  # Llama 4 has always one, of an expert's width
        return expert_width(fields)
    shared = fields.count(
        "experts", "n_shared_experts", "num_shared_experts", "moe_num_shared_experts", default=0, least=0
    )
    return shared * expert_width(fields) if shared else 0


def correction(fields: Fields, family: Family) -> int:
    """Parameters of the router's correction, which steers the choice of experts."""
    asked = fields.flag("use_expert_bias", "use_routing_bias", default=True)
    return fields.count("experts", *EXPERT_KEYS, default=0, least=0) if family.correction and asked else 0
