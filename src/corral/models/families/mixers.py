"""Softmax attention out of config.json's keys: grouped, sliding, chunked, latent; knows no layer but one."""

from corral.models.architecture import Attention, LatentAttention
from corral.models.families.traits import Asked, Family
from corral.models.fields import Fields


def attention(fields: Fields, family: Family, *, windowed: bool = False, heads: int | None = None) -> Attention:
    """Attention with grouped heads; `windowed`: of the kind that keeps a bounded number of tokens."""
    if windowed:
        fields = _of_window(fields)
    heads = heads or fields.count("heads", "num_attention_heads", "n_head", "n_heads")
    kv_heads = fields.count("kv_heads", "num_key_value_heads", "num_kv_heads", default=heads)
    dimension = head_dim(fields, heads)
    check_heads(fields, heads, kv_heads)
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=dimension,
        value_dim=fields.count("head_dim", "v_head_dim", default=dimension),
        window=fields.count("window", "sliding_window", "attention_chunk_size") if windowed else None,
        gated=family.gate == "always" or (family.gate == "asked" and fields.flag("attn_output_gate")),
        bias=_asked(fields, family.bias),
        output_bias=fields.flag("attention_out_bias", default=_asked(fields, family.output_bias)),
        qk_norm=family.qk_norm != "none" or (fields.flag("use_qk_norm") and family.layout != "chunked"),
        sinks=family.sinks or fields.flag(f"add_{'swa' if windowed else 'full'}_attention_sink_bias"),
    )


def _of_window(fields: Fields) -> Fields:
    """The fields of sliding layers, where a family gives these heads of their own (MiMo V2)."""
    own = {key.removeprefix("swa_"): value for key, value in fields.values.items() if key.startswith("swa_")}
    return Fields(fields.file, {**fields.values, **own}) if own else fields


def head_dim(fields: Fields, heads: int) -> int:
    """Size of a head: stated, or the hidden size divided among the heads, which then has to come out even."""
    hidden = fields.count("hidden", "hidden_size", "n_embd", "d_model")
    if not any(fields.has(key) for key in ("head_dim", "attention_head_dim")) and hidden % heads:
        raise fields.refused("num_attention_heads", f"is {heads}, which does not divide the hidden size {hidden}")
    return fields.count("head_dim", "head_dim", "attention_head_dim", default=max(1, hidden // heads))


def check_heads(fields: Fields, heads: int, kv_heads: int) -> None:
    """Refuse KV heads that cannot be shared evenly."""
    if heads % kv_heads:
        raise fields.refused("num_key_value_heads", f"is {kv_heads}, which does not divide the {heads} attention heads")


def surplus(fields: Fields, family: Family, mixer: Attention) -> int:
    """Parameters of a layer's attention that `Attention` has no word for."""
    extra = 0
    if family.qk_norm == "whole":  # one vector over all heads, not one of a head's size
        extra += (mixer.heads - 1) * mixer.head_dim + (mixer.kv_heads - 1) * mixer.head_dim
    if family.gate == "per-head":  # one gate a head
        per_element = fields.values.get("gating") == "per-element"
        extra += fields.count("hidden", "hidden_size") * mixer.heads * (mixer.head_dim if per_element else 1)
    return extra


def latent(fields: Fields, family: Family, layer: int = 0) -> LatentAttention:
    """Multi-head latent attention, with the indexer of sparse attention where this layer has its own."""
    indexers = fields.items("indexer_types") or ()
    shares = layer < len(indexers) and indexers[layer] == "shared"
    heads = fields.count("heads", "num_attention_heads")
    check_heads(fields, heads, fields.count("kv_heads", "num_key_value_heads", default=heads))
    return LatentAttention(
        heads=heads,
        q_rank=fields.count("hidden", "q_lora_rank", default=0, least=0),
        kv_rank=fields.count("hidden", "kv_lora_rank"),
        rope_dim=fields.count("head_dim", "qk_rope_head_dim", default=0, least=0),
        nope_dim=fields.count("head_dim", "qk_nope_head_dim"),
        value_dim=fields.count("head_dim", "v_head_dim"),
        index_heads=0 if shares else fields.count("heads", "index_n_heads", default=0, least=0),
        index_dim=0 if shares else fields.count("head_dim", "index_head_dim", default=0, least=0),
        index_topk=fields.count("window", "index_topk", default=0, least=0),
        bias=_asked(fields, family.bias),
    )


def _asked(fields: Fields, asked: Asked) -> bool:
    return asked == "always" or (asked == "asked" and fields.flag("attention_bias", "qkv_bias", "use_qkv_bias"))
