"""DeepSeek V4's own ways: keys as values, compressed caches, several residual streams; knows no other family.

Attention is written as LatentAttention that is `absorbed`: the cached vector (head_dim values, the rotary ones among
them) serves every head as key and value. Layers by compression ratio: 0 keeps the window alone, 4 has an indexer
(CSA), 128 has none (HCA). Reference: PyPI package transformers 5.23.0, models/deepseek_v4.
"""

from typing import Final

from corral.models.architecture import Block, Experts, LatentAttention
from corral.models.families.feedforward import experts
from corral.models.families.traits import Family
from corral.models.fields import Fields

_RATIOS: Final = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}
_FAMILY: Final = Family(sparse="all")


def deepseek_v4_blocks(fields: Fields, layers: int) -> tuple[Block, ...]:
    """One block a layer."""
    hashed = fields.count("layers", "num_hash_layers", default=3, least=0)
    return tuple(
        deepseek_v4_block(fields, ratio, hashed=index < hashed) for index, ratio in enumerate(_ratios(fields, layers))
    )


def _ratios(fields: Fields, layers: int) -> tuple[int, ...]:
    words = fields.words("layer_types", layers)
    if words:
        if unknown := set(words) - set(_RATIOS):
            raise fields.refused("layer_types", f"names the unknown kind {min(unknown)[:40]!r}")
        return tuple(_RATIOS[word] for word in words)
    ratios = fields.counts("window", "compress_ratios", layers)
    if not ratios:
        raise fields.refused("compress_ratios", "is missing")
    return ratios


def deepseek_v4_block(fields: Fields, ratio: int, *, hashed: bool = False) -> Block:
    """A layer that keeps one vector for `ratio` tokens beside its window (0: the window alone).

    `hashed`: experts are chosen by the token's number, through a table instead of a correction.
    """
    hidden = fields.count("hidden", "hidden_size")
    mixer = _attention(fields, ratio)
    cached = mixer.kv_rank + mixer.rope_dim
    streams = fields.count("heads", "hc_mult", default=4)
    mixture: Experts = experts(fields, _FAMILY)
    extra = _compressor(hidden, cached, ratio, overlaps=bool(mixer.index_heads)) if ratio else 0
    if mixer.index_heads:  # the indexer's own compressor, less what LatentAttention counts of an indexer's keys
        extra += _compressor(hidden, mixer.index_dim, ratio, overlaps=True) - (hidden + 2) * mixer.index_dim
    ways = (2 + streams) * streams
    extra += 2 * (ways * streams * hidden + ways + 3)  # hyper-connections around attention and experts
    extra += fields.count("vocabulary", "vocab_size") * mixture.active if hashed else mixture.experts
    return Block(mixer=mixer, feed_forward=mixture, norms=2, extra=extra)


def _compressor(hidden: int, cached: int, ratio: int, *, overlaps: bool) -> int:
    """Two projections, a position bias a token of the stretch, a norm; stretches that overlap take twice the width."""
    width = 2 * cached if overlaps else cached
    return 2 * hidden * width + ratio * width + cached


def _attention(fields: Fields, ratio: int) -> LatentAttention:
    cached = fields.count("head_dim", "head_dim")
    rotary = fields.count("head_dim", "qk_rope_head_dim", default=64, least=0)
    if rotary >= cached:
        raise fields.refused("qk_rope_head_dim", f"is {rotary}, which leaves nothing of a head of {cached}")
    heads = fields.count("heads", "num_attention_heads")
    groups = fields.count("heads", "o_groups", default=1)
    if heads % groups:
        raise fields.refused("o_groups", f"is {groups}, which does not divide the {heads} attention heads")
    indexed = ratio == _RATIOS["compressed_sparse_attention"]
    return LatentAttention(
        heads=heads,
        q_rank=fields.count("hidden", "q_lora_rank"),
        kv_rank=cached - rotary,
        rope_dim=rotary,
        nope_dim=cached - rotary,
        value_dim=cached,
        index_heads=fields.count("heads", "index_n_heads") if indexed else 0,
        index_dim=fields.count("head_dim", "index_head_dim") if indexed else 0,
        index_topk=fields.count("window", "index_topk") if indexed else 0,
        sinks=True,
        absorbed=True,
        ratio=max(1, ratio),
        window=fields.count("window", "sliding_window", default=128),
        output_groups=groups,
        output_rank=fields.count("hidden", "o_lora_rank"),
        window_only=ratio == 0,
    )


def deepseek_v4_extra(fields: Fields) -> int:
    """Parameters outside of layers: what joins the residual streams before the head."""
    streams = fields.count("heads", "hc_mult", default=4)
    return streams * streams * fields.count("hidden", "hidden_size") + streams + 1
