"""Turns the headers of a GGUF model's files into ModelFacts; knows llama.cpp's metadata keys, not its engine."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.demo import MARK, NAME
from corral.models.fields import Fields
from corral.models.ggml_types import FILE_TYPES
from corral.models.gguf import Header, Metadata, Scalar, Skipped, read_header
from corral.models.gguf_architecture import architecture_from_gguf
from corral.models.shards import require, shard_names, without_shard
from corral.models.values import ModelFacts
from corral.models.weights import gguf_weights

_QUANTIZATION_SUFFIX: Final = re.compile(
    r"[-._](?:UD-)?(?:I?Q\d\w*|TQ\d\w*|BF16|F16|F32|MXFP4\w*|NVFP4)$", re.IGNORECASE
)


def read_gguf(path: Path) -> ModelFacts:
    """Read a GGUF file, or all parts of the one that this is a part of. BadInput when it cannot be a model."""
    names = shard_names(path.name)
    require(path.parent, names)
    headers: list[Header] = []
    for name in names:
        with (path.parent / name).open("rb") as file:
            headers.append(read_header(file, str(path.parent / name)))
    _check_split(headers, path)
    files = tuple((name, (path.parent / name).stat().st_size) for name in names)
    return gguf_facts(headers, path.parent / names[0], files)


def gguf_facts(headers: Sequence[Header], path: Path, files: tuple[tuple[str, int], ...]) -> ModelFacts:
    """The facts that the headers of all parts, the first first, hold together."""
    metadata = headers[0].metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise BadInput(f"{path}: general.architecture is missing.", "Give a GGUF file of a language model.")
    if f"{architecture}.block_count" not in metadata:
        raise BadInput(
            f"{path} holds no language model: it is of kind {architecture!r} and says nothing of layers.",
            "Give the model's own file, not its projector (mmproj), adapter or vocabulary.",
        )
    tensors = [tensor for header in headers for tensor in header.tensors]
    sizes = {tensor.name: tensor.bytes for tensor in tensors}
    demo = MARK in metadata
    anatomy = _anatomy(headers, path)
    return ModelFacts(
        name=NAME if demo else _model_name(path),
        path=str(path.absolute()),
        format="gguf",
        files=files,
        architecture=architecture,
        quantization=quantization_of(headers),
        weights_bytes=sum(sizes.values()),
        parameters=sum(tensor.elements for tensor in tensors),
        **_shape(headers[0], architecture, str(path)),
        embeds=bool(metadata.get(f"{architecture}.pooling_type")),
        chat="tokenizer.chat_template" in metadata,
        demo=demo,
        embedding_bytes=sizes.get("token_embd.weight", 0),
        head_bytes=sizes.get("output.weight", 0),
        anatomy=anatomy,
        weights=gguf_weights(headers, anatomy.layers) if anatomy else None,
    )


def _anatomy(headers: Sequence[Header], path: Path) -> ModelArchitecture | None:
    """The architecture, where the header says enough of it: an engine may run what cannot be taken apart here."""
    name = _model_name(path)
    try:
        return architecture_from_gguf(headers, name=name, source=str(path), id=name)
    except BadInput:
        return None


def _shape(header: Header, architecture: str, file: str) -> dict[str, int]:
    prefix = f"{architecture}."
    fields = Fields(file, {key: _largest(value) for key, value in header.metadata.items()})
    layers = fields.count("layers", f"{prefix}block_count")
    hidden = fields.count("hidden", f"{prefix}embedding_length")
    heads = fields.count("heads", f"{prefix}attention.head_count")
    kv_heads = fields.count("kv_heads", f"{prefix}attention.head_count_kv", default=heads, least=0)
    if kv_heads and heads % kv_heads:
        raise fields.refused(f"{prefix}attention.head_count_kv", f"is {kv_heads}, which does not divide {heads} heads")
    key = fields.count("head_dim", f"{prefix}attention.key_length", default=-(-hidden // heads))
    value = fields.count("head_dim", f"{prefix}attention.value_length", default=key)
    latent = fields.count("head_dim", f"{prefix}attention.kv_lora_rank", default=0, least=0)
    rope = fields.count("head_dim", f"{prefix}rope.dimension_count", default=0, least=0)
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    default = tokens.count if isinstance(tokens, Skipped) else 0
    by_layer = header.metadata.get(f"{prefix}attention.head_count_kv")
    kv_total = sum(_numbers(by_layer)) if isinstance(by_layer, tuple) else layers * kv_heads
    return {
        "layers": layers,
        "hidden": hidden,
        "heads": heads,
        "kv_heads": 1 if latent else kv_heads,
        "head_dim": key,
        "context": fields.count("context", f"{prefix}context_length"),
        "vocabulary": fields.count("vocabulary", f"{prefix}vocab_size", default=default, least=0),
        "experts": fields.count("experts", f"{prefix}expert_count", default=0, least=0),
        "kv_values": layers * (latent + rope) if latent else kv_total * (key + value),
    }


def _largest(value: Metadata) -> object:
    """A number, or the largest of those that are given layer by layer."""
    return max(_numbers(value), default=None) if isinstance(value, tuple) else value


def _numbers(values: tuple[Scalar, ...]) -> list[int]:
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool)]


def quantization_of(headers: Sequence[Header]) -> str:
    """The file's own word for it, else the type that most bytes have."""
    file_type = headers[0].metadata.get("general.file_type")
    if isinstance(file_type, int) and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    by_type: Counter[str] = Counter()
    for header in headers:
        for tensor in header.tensors:
            by_type[tensor.type.name] += tensor.bytes
    return by_type.most_common(1)[0][0] if by_type else "unknown"


def _check_split(headers: Sequence[Header], path: Path) -> None:
    """Refuse a part that goes by a whole model's name, and parts that do not make the whole that they claim."""
    count = headers[0].metadata.get("split.count", 0)
    if isinstance(count, int) and count > 1 and count != len(headers):
        raise BadInput(
            f"{path} is one of {count} parts, but its name does not say which.",
            f"Name the parts as they were: ...-00001-of-{count:05}.gguf and so on.",
        )
    whole = headers[0].metadata.get("split.tensors.count", 0)
    there = sum(len(header.tensors) for header in headers)
    if isinstance(whole, int) and whole > there:
        raise BadInput(f"{path} and its other parts lack {whole - there} of {whole} tensors.", "Fetch the model again.")
    if not there:
        raise BadInput(f"{path} holds no tensors.", "Give the model's own file, not only its vocabulary.")


def _model_name(path: Path) -> str:
    return _QUANTIZATION_SUFFIX.sub("", without_shard(path.stem)).lower()
