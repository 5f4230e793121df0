"""GGUF files of any size that hold zeros and take no disk: for asking llama.cpp what it would take of memory."""

import math
import os
from dataclasses import dataclass, field

import gguf


@dataclass
class Sparse:
    """A model to be written: metadata below its architecture's prefix, and tensors by name with shape and type."""

    architecture: str
    vocabulary: int
    fields: dict
    tensors: dict = field(default_factory=dict)

    def add(self, name, *shape, kind="f16"):
        """A tensor; the shape in ggml's order, the row first."""
        self.tensors[name] = (shape, "f32" if len(shape) == 1 else kind)


def write(model, path):
    writer = gguf.GGUFWriter(path, model.architecture)
    writer.add_vocab_size(model.vocabulary)
    for key, value in model.fields.items():
        _add(writer, f"{model.architecture}.{key}", value)
    _add_tokenizer(writer, model.vocabulary)
    size = 0
    for name, (shape, kind) in model.tensors.items():
        raw = gguf.GGMLQuantizationType[kind.upper()]
        block, width = gguf.GGML_QUANT_SIZES[raw]
        assert shape[0] % block == 0, (name, shape, kind)
        count = math.prod(shape) // block * width
        writer.add_tensor_info(name, tuple(reversed(shape)), None, count, raw)
        size += -(-count // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for file in writer.fout:
        file.flush()
    writer.close()
    start = -(-os.path.getsize(path) // 32) * 32
    os.truncate(path, start + size)


def _add(writer, key, value):
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _add_tokenizer(writer, vocabulary):
    """Byte-level tokens and, beyond them, as many words that no text has."""
    from corral.models.demo.bpe import ALPHABET

    tokens = [*ALPHABET, *(f"\u0100x{number}" for number in range(vocabulary - len(ALPHABET)))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * vocabulary)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
