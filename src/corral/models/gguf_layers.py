"""What one block of a GGUF model is made of, by its tensors and the file's metadata; knows no other block.

Shapes decide: a block is what its tensors are, whatever the architecture is called. Shapes are in ggml's order, the
input of a matrix first. Names and metadata keys: gguf-py/gguf/constants.py of github.com/ggml-org/llama.cpp.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from corral.models.architecture import Attention, Block, Experts, FeedForward, LatentAttention, Mixer, Mlp, Recurrent
from corral.models.fields import Fields
from corral.models.gguf import Tensor
from corral.models.parameters import block_parameters

_RECURRENT: Final = ("ssm_", "shortconv.", "time_mix_")
_OF_MIXER: Final = ("attn_qkv", "attn_gate", "attn_norm_2")  # beside ssm tensors, these are of the linear layer


@dataclass(frozen=True, slots=True)
class Layer:
    """One block's tensors, by name without `blk.N.`, and what the metadata says of it; `fields` have no prefix."""

    tensors: Mapping[str, Tensor]
    fields: Fields
    hidden: int
    heads: int
    kv_heads: int
    window: int | None
    shares_kv: bool  # says the metadata; such a block may hold keys and values all the same, and does not use them

    def out(self, name: str) -> int:
        """Columns that a matrix makes; 0 when the block has no such matrix."""
        tensor = self.tensors.get(f"{name}.weight")
        return tensor.shape[1] if tensor is not None and len(tensor.shape) >= 2 else 0

    def takes(self, name: str) -> int:
        """Columns that a matrix takes; 0 when there is none."""
        tensor = self.tensors.get(f"{name}.weight")
        return tensor.shape[0] if tensor is not None and tensor.shape else 0

    def has(self, name: str) -> bool:
        """Whether the block has this tensor."""
        return name in self.tensors


def block_of(layer: Layer) -> Block:
    """The block, with what its kinds do not count as `extra`, so that it counts to its tensors' elements."""
    norms = sum(
        1
        for name, tensor in layer.tensors.items()
        if "norm" in name and name.endswith(".weight") and tensor.shape == (layer.hidden,) and not _of_head(name)
    )
    block = Block(mixer=_mixer(layer), feed_forward=_feed_forward(layer), norms=norms)
    there = sum(tensor.elements for tensor in layer.tensors.values())
    counted = sum(block_parameters(block, layer.hidden).values())
    return block.model_copy(update={"extra": max(0, there - counted)})


def _of_head(name: str) -> bool:
    return name.startswith(("attn_q_norm", "attn_k_norm", "attn_q_a_norm", "attn_kv_a_norm", "indexer.", "ssm_"))


def _mixer(layer: Layer) -> Mixer | None:
    if layer.has("attn_kv_a_mqa.weight"):
        return _latent(layer)
    if any(name.startswith(_RECURRENT) for name in layer.tensors):
        return _recurrent(layer)
    if layer.out("attn_q") or layer.out("attn_qkv"):
        return _attention(layer)
    return None


def _attention(layer: Layer) -> Attention:
    heads, kv_heads = layer.heads, layer.kv_heads or layer.heads
    if heads % kv_heads:
        raise layer.fields.refused("attention.head_count_kv", f"is {kv_heads}, which does not divide {heads} heads")
    stated = layer.fields.count("head_dim", "attention.key_length", default=max(1, layer.hidden // heads))
    key, value = layer.out("attn_k"), layer.out("attn_v")
    fused = layer.out("attn_qkv") > 0
    shares = layer.shares_kv or not (fused or key)
    dimension = key // kv_heads if key else stated if fused else _shared_dim(layer, heads, stated)
    given = layer.takes("attn_output") // heads
    value_dim = value // kv_heads if value else given or dimension
    return Attention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=max(1, dimension),
        value_dim=max(1, value_dim),
        window=layer.window,
        gated=layer.out("attn_q") >= 2 * heads * max(1, dimension) or layer.out("attn_gate") == heads * value_dim,
        bias=layer.has("attn_q.bias") or layer.has("attn_qkv.bias"),
        output_bias=layer.has("attn_output.bias"),
        qk_norm=layer.has("attn_q_norm.weight"),
        sinks=layer.has("attn_sinks.weight") or layer.has("attn_sinks"),
        shares_kv=shares,
        values_from_keys=bool(key) and not value,
    )


def _shared_dim(layer: Layer, heads: int, stated: int) -> int:
    """Size of a query head where keys are another layer's."""
    made = layer.out("attn_q")
    return made // heads if made % heads == 0 else stated


def _latent(layer: Layer) -> LatentAttention:
    fields = layer.fields
    rank = fields.count("hidden", "attention.kv_lora_rank")
    rope = max(0, layer.out("attn_kv_a_mqa") - rank)
    key = fields.count("head_dim", "attention.key_length_mla", "attention.key_length")
    value = fields.count("head_dim", "attention.value_length_mla", "attention.value_length", default=key)
    if rope >= key:
        raise fields.refused("attention.key_length", f"is {key}, of which {rope} are rotary and none is left")
    indexed = layer.out("indexer.attn_q_b") > 0
    return LatentAttention(
        heads=layer.heads,
        q_rank=layer.out("attn_q_a"),
        kv_rank=rank,
        rope_dim=rope,
        nope_dim=key - rope,
        value_dim=value,
        index_heads=fields.count("heads", "attention.indexer.head_count", default=0, least=0) if indexed else 0,
        index_dim=fields.count("head_dim", "attention.indexer.key_length", default=0, least=0) if indexed else 0,
        index_topk=fields.count("window", "attention.indexer.top_k", default=0, least=0),
        bias=layer.has("attn_output.bias"),
    )


def _recurrent(layer: Layer) -> Recurrent:
    """Mamba, delta nets and short convolutions: state by metadata, parameters by what the tensors hold."""
    mine = {
        name: tensor
        for name, tensor in layer.tensors.items()
        if name.startswith((*_RECURRENT, *_OF_MIXER)) or (name.startswith("attn_") and "norm" not in name)
    }
    parameters = sum(tensor.elements for tensor in mine.values())
    if any(name.startswith("shortconv.") for name in mine):
        return Recurrent(
            family="short-conv",
            parameters=parameters,
            state_values=0,
            conv_values=_convolutions(mine),
            heads=layer.hidden,
        )
    fields = layer.fields
    inner = fields.count("width", "ssm.inner_size", default=layer.hidden)
    state = fields.count("width", "ssm.state_size", default=1)
    return Recurrent(
        family=_family(mine),
        parameters=parameters,
        state_values=inner * state,
        conv_values=_convolutions(mine),
        heads=fields.count("width", "ssm.group_count" if "ssm_beta.weight" in mine or "ssm_ba.weight" in mine else
                           "ssm.time_step_rank", default=1, least=0) or 1,
    )  # fmt: skip


def _family(tensors: Mapping[str, Tensor]) -> Literal["mamba2", "mamba1", "delta-net"]:
    if any(name.startswith(("ssm_alpha", "ssm_ba", "ssm_beta", "ssm_f_a")) for name in tensors):
        return "delta-net"
    return "mamba1" if "ssm_x.weight" in tensors else "mamba2"


def _convolutions(tensors: Mapping[str, Tensor]) -> int:
    """Inputs that all convolutions keep: kernel less one, times channels."""
    return sum(
        (tensor.shape[0] - 1) * (tensor.elements // tensor.shape[0])
        for name, tensor in tensors.items()
        if "conv" in name and name.endswith(".weight") and "proj" not in name and tensor.shape and tensor.shape[0]
    )


def _feed_forward(layer: Layer) -> FeedForward | None:
    if any("_exps." in name for name in layer.tensors):
        return _experts(layer)
    width = layer.takes("ffn_down")
    return Mlp(width=width, gated=_gated(layer, ""), bias=layer.has("ffn_down.bias")) if width else None


def _gated(layer: Layer, kind: str) -> bool:
    """Whether there is a gate, in a matrix of its own or fused into the one up."""
    down, up = layer.takes(f"ffn_down{kind}"), layer.out(f"ffn_up{kind}")
    return layer.has(f"ffn_gate{kind}.weight") or layer.has(f"ffn_gate_up{kind}.weight") or (0 < 2 * down <= up)


def _experts(layer: Layer) -> Experts:
    fields = layer.fields
    down = layer.tensors.get("ffn_down_exps.weight")
    if down is None or len(down.shape) != 3:
        raise fields.refused("blk.N.ffn_down_exps.weight", "is missing or is no stack of matrices")
    width, inner, count = down.shape
    active = fields.count("experts", "expert_used_count")
    if active > count:
        raise fields.refused("expert_used_count", f"is {active}, which is more than the {count} experts")
    return Experts(
        experts=count,
        active=active,
        width=width,
        shared_width=layer.takes("ffn_down_shexp"),
        shared_gate=layer.has("ffn_gate_inp_shexp.weight"),
        latent=inner if layer.has("ffn_latent_down.weight") else 0,
        gated=_gated(layer, "_exps"),
        bias=layer.has("ffn_down_exps.bias"),
        parallel_mlp=layer.takes("ffn_down"),
    )
