"""Writes the demo model as a GGUF file; knows how llama.cpp names and orders tensors, not what is in them."""

from pathlib import Path

import gguf

from corral.models.demo import MARK, NAME, RECIPE, TITLE
from corral.models.demo.corpus import BEGIN, CHAT_TEMPLATE, END
from corral.models.demo.weights import Demo, Matrix, Shape

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(demo: Demo, path: Path) -> None:
    """Write the file; OSError when the disk does not take it."""
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _add_shape(writer, demo.shape)
        _add_tokenizer(writer, demo)
        for name, tensor in demo.tensors.items():
            writer.add_tensor(_name(name), _as_llama_cpp(name, tensor, demo.shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_shape(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name(TITLE)
    writer.add_basename(NAME)
    writer.add_string(MARK, RECIPE)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _add_tokenizer(writer: gguf.GGUFWriter, demo: Demo) -> None:
    tokenizer = demo.tokenizer
    special = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokenizer.tokens))
    writer.add_token_types(
        [special if token in tokenizer.specials else gguf.TokenType.NORMAL for token in tokenizer.tokens]
    )
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.id(BEGIN))
    writer.add_eos_token_id(tokenizer.id(END))
    writer.add_add_bos_token(value=False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _name(name: str) -> str:
    """llama.cpp's name of a tensor: model.layers.3.mlp.up_proj.weight -> blk.3.ffn_up.weight."""
    stem = name.removesuffix(".weight")
    if not stem.startswith("model.layers."):
        return f"{_NAMES[stem]}.weight"
    layer, part = stem.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{_NAMES[part]}.weight"


def _as_llama_cpp(name: str, tensor: Matrix, shape: Shape) -> Matrix:
    """Query and key rows in llama.cpp's order for "llama": a head's two rotated halves interleaved.

    As `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py does.
    """
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return tensor
    rows, columns = tensor.shape
    halves = tensor.reshape(rows // shape.head_dim, 2, shape.head_dim // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)
