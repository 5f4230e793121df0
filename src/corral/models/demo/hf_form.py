"""Writes the demo model as a Hugging Face folder; knows that format's files, not what is in the tensors."""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType] - its PathLike is bare

from corral.models.demo import MARK, NAME, RECIPE
from corral.models.demo.bpe import Tokenizer
from corral.models.demo.corpus import BEGIN, CHAT_TEMPLATE, END
from corral.models.demo.weights import Demo


def write(demo: Demo, folder: Path, *, shards: int = 1) -> None:
    """Write the files into an existing folder, the tensors over `shards` files; OSError when the disk fails."""
    _write_weights(demo, folder, shards)
    for name, content in {
        "config.json": _config(demo),
        "generation_config.json": _token_ids(demo.tokenizer),
        "tokenizer.json": _tokenizer(demo.tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": demo.shape.context,
            "chat_template": CHAT_TEMPLATE,
        },
    }.items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_weights(demo: Demo, folder: Path, shards: int) -> None:
    metadata = {"format": "pt", MARK: RECIPE}
    if shards == 1:
        save_file(demo.tensors, folder / "model.safetensors", metadata)
        return
    names = list(demo.tensors)
    files = {name: f"model-{index * shards // len(names) + 1:05}-of-{shards:05}.safetensors"
             for index, name in enumerate(names)}  # fmt: skip
    for file in sorted(set(files.values())):
        save_file({name: demo.tensors[name] for name in names if files[name] == file}, folder / file, metadata)
    index = {"metadata": {"total_size": sum(t.nbytes for t in demo.tensors.values())}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _config(demo: Demo) -> Mapping[str, object]:
    shape = demo.shape
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        "_name_or_path": NAME,
        "corral_demo": RECIPE,
        **_token_ids(demo.tokenizer),
    }


def _token_ids(tokenizer: Tokenizer) -> Mapping[str, int]:
    return {"bos_token_id": tokenizer.id(BEGIN), "eos_token_id": tokenizer.id(END)}


def _tokenizer(tokenizer: Tokenizer) -> Mapping[str, object]:
    """The `tokenizers` library's form of a byte-level BPE with GPT-2's split into words."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    plain = [token for token in tokenizer.tokens if token not in tokenizer.specials]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": tokenizer.id(token),
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in tokenizer.specials
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: index for index, token in enumerate(plain)},
            "merges": [list(pair) for pair in tokenizer.merges],
        },
    }
