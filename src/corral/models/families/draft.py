"""Multi-token-prediction layers (MTP) out of config.json's keys; knows no engine that drafts with them.

A draft that shares the model's embedding and head, as all of these do when served, counts neither.
"""

from corral.models.architecture import Block
from corral.models.families.deepseek_v4 import deepseek_v4_block
from corral.models.families.layers import layer_words
from corral.models.families.traits import Family
from corral.models.fields import Fields


def draft(fields: Fields, family: Family, blocks: tuple[Block, ...]) -> tuple[tuple[Block, ...], int]:
    """The draft's blocks and its parameters beside them; `blocks` are the model's, one a layer."""
    hidden = fields.count("hidden", "hidden_size")
    joined = 2 * hidden * hidden
    match family.mtp:
        case "deepseek":  # the last layer once more; norms of both inputs and before the head
            count = fields.count("layers", "num_nextn_predict_layers", "num_mtp_layers", default=0, least=0)
            return (_last(fields, family, blocks),) * count, count * (joined + 3 * hidden)
        case "qwen":  # the last layer with full attention once more; the same norms, once
            count = fields.count("layers", "mtp_num_hidden_layers", default=0, least=0)
            full = next((block for block in reversed(blocks) if block.mixer and block.mixer.kind == "attention"), None)
            return ((full,) * count, joined + 3 * hidden) if full and count else ((), 0)
        case "nemotron":
            return _nemotron(fields, blocks, joined)
        case _:
            return (), 0


def _last(fields: Fields, family: Family, blocks: tuple[Block, ...]) -> Block:
    """The layer that the draft repeats; DeepSeek V4 states its compression behind those of the model's layers."""
    ratios = fields.items("compress_ratios") or ()
    if family.special == "deepseek_v4" and len(ratios) > len(blocks):
        ratio = fields.counts("window", "compress_ratios", len(blocks) + 1)
        return deepseek_v4_block(fields, ratio[-1]) if ratio else blocks[-1]
    return blocks[-1]


def _nemotron(fields: Fields, blocks: tuple[Block, ...], joined: int) -> tuple[tuple[Block, ...], int]:
    """Nemotron 3: the kinds of layers that the draft's own pattern names, for each token drafted."""
    count = fields.count("layers", "num_nextn_predict_layers", default=0, least=0)
    words = layer_words(fields, "mtp_layers_block_type", "mtp_hybrid_override_pattern")
    if not count or not words:
        return (), 0
    by_word = dict(zip(layer_words(fields), blocks, strict=False))
    if lacking := [word for word in words if word not in by_word]:
        raise fields.refused("mtp_layers_block_type", f"names {lacking[0][:40]!r}, which no layer of the model is")
    hidden = fields.count("hidden", "hidden_size")
    return tuple(by_word[word] for word in words) * count, count * (joined + 3 * hidden)
