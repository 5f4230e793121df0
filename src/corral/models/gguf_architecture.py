"""Builds a model's architecture from a GGUF header alone; knows llama.cpp's metadata keys, not its engine."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

from pydantic import ValidationError

from corral.errors import BadInput
from corral.models.architecture import Block, ModelArchitecture
from corral.models.fields import Fields
from corral.models.gguf import Header, Metadata, Skipped, Tensor
from corral.models.gguf_layers import Layer, block_of

_BLOCK: Final = re.compile(r"blk\.(\d{1,6})\.(.+)")
_TOWERS: Final = ("v.", "mm.", "a.", "resampler.")
# Every which layer attends to all, where a window is stated and no pattern is (llama.cpp, src/models).
_FULL_EVERY: Final = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4}
_ALL_SLIDE: Final = ("phi3", "mistral", "starcoder2")
_CHUNKED: Final = "llama4"  # three of four layers attend within chunks of this many tokens, whatever the file says
_CHUNK: Final = 8192


def architecture_from_gguf(
    headers: Sequence[Header],
    *,
    name: str,
    source: str,
    id: str,  # noqa: A002 - the value's own word
) -> ModelArchitecture:
    """The architecture that the headers of a model's files, the first first, describe together.

    Its parameters add up to the elements of all tensors. BadInput names what is missing or cannot be true.
    """
    metadata = headers[0].metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise BadInput(f"{source}: general.architecture is missing.", "Give a GGUF file of a language model.")
    start = f"{architecture}."
    of_model = {key.removeprefix(start): value for key, value in metadata.items() if key.startswith(start)}
    tensors = {tensor.name: tensor for header in headers for tensor in header.tensors}
    try:
        return _read(Fields(source, of_model), architecture, tensors, metadata, (name, id))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its architecture"
        raise BadInput(f"{source}: {where} cannot be true: {first['msg'][:120]}.", "Fetch it again.") from None


def _read(
    fields: Fields,
    architecture: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Metadata],
    names: tuple[str, str],
) -> ModelArchitecture:
    hidden = fields.count("hidden", "embedding_length")
    count = fields.count("layers", "block_count")
    drafted = fields.count("layers", "nextn_predict_layers", default=0, least=0)
    if drafted >= count:
        raise fields.refused("nextn_predict_layers", f"is {drafted} of {count} blocks, so none is the model's")
    blocks = _blocks(fields, architecture, tensors, hidden, count)
    body, draft = blocks[: count - drafted], blocks[count - drafted :]
    kinds = tuple(dict.fromkeys(body))
    positions: dict[Block, int] = {block: index for index, block in enumerate(kinds)}
    vocabulary = _vocabulary(fields, tensors, metadata, hidden)
    tied = "output.weight" not in tensors
    known = (2 - tied) * vocabulary * hidden + hidden
    outside = {name: tensor for name, tensor in tensors.items() if not _BLOCK.fullmatch(name)}
    vision = sum(tensor.elements for name, tensor in outside.items() if name.startswith(_TOWERS))
    extra = sum(tensor.elements for tensor in outside.values()) - vision - known
    return ModelArchitecture(
        id=names[1],
        name=names[0],
        architecture=architecture[:100],
        hidden=hidden,
        vocabulary=vocabulary,
        context=fields.count("context", "context_length"),
        tied=tied,
        blocks=kinds,
        order=tuple(positions[block] for block in body),
        draft=draft,
        vision=vision,
        extra=max(0, extra),
        source=fields.file,
    )


def _vocabulary(fields: Fields, tensors: Mapping[str, Tensor], metadata: Mapping[str, Metadata], hidden: int) -> int:
    """Rows of the embedding; its other side has to be the hidden size."""
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        tokens = metadata.get("tokenizer.ggml.tokens")
        return fields.count("vocabulary", "vocab_size", default=tokens.count if isinstance(tokens, Skipped) else None)
    if len(embedding.shape) != 2 or embedding.shape[0] != hidden:
        shape = " x ".join(map(str, embedding.shape))
        raise fields.refused("embedding_length", f"is {hidden}, but token_embd.weight has the shape {shape}")
    return embedding.shape[1]


def _blocks(
    fields: Fields, architecture: str, tensors: Mapping[str, Tensor], hidden: int, count: int
) -> tuple[Block, ...]:
    by_block: list[dict[str, Tensor]] = [{} for _ in range(count)]
    for name, tensor in tensors.items():
        matched = _BLOCK.fullmatch(name)
        if matched is not None and int(matched[1]) < count:
            by_block[int(matched[1])][matched[2]] = tensor
    empty = [index for index, mine in enumerate(by_block) if not mine]
    if empty:
        raise fields.refused("block_count", f"is {count}, but there are no tensors of block {empty[0]}")
    made: dict[object, Block] = {}
    result: list[Block] = []
    for index, mine in enumerate(by_block):
        layer = _layer(fields, architecture, mine, hidden, index, count)
        shapes = tuple(sorted((name, tensor.shape) for name, tensor in mine.items()))
        key = (shapes, layer.heads, layer.kv_heads, layer.window)
        if key not in made:
            made[key] = block_of(layer)
        result.append(made[key])
    return tuple(result)


def _layer(
    fields: Fields, architecture: str, tensors: Mapping[str, Tensor], hidden: int, index: int, count: int
) -> Layer:
    """One block with what the metadata says of it: of a list, its own entry."""
    mine = Fields(fields.file, {key: _own(value, index, count) for key, value in fields.values.items()})
    windowed = _windowed(fields, architecture, index)
    heads = mine.count("heads", "attention.head_count", default=1, least=0)
    if windowed:
        swapped = {key[: -len("_swa")]: value for key, value in mine.values.items() if key.endswith("_swa")}
        mine = Fields(mine.file, {**mine.values, **swapped})
    return Layer(
        tensors=tensors,
        fields=mine,
        hidden=hidden,
        heads=max(1, heads),
        kv_heads=mine.count("kv_heads", "attention.head_count_kv", default=heads, least=0),
        window=_window(mine) if windowed else None,
        shares_kv=index >= count - mine.count("layers", "attention.shared_kv_layers", default=0, least=0),
    )


def _own(value: object, index: int, count: int) -> object:
    """A list's entry for this block, where it has one a block; else the value as it is."""
    if not isinstance(value, tuple):
        return value
    items = cast("tuple[object, ...]", value)
    return items[index] if len(items) >= count else items


def _window(fields: Fields) -> int:
    return fields.count("window", "attention.sliding_window", "attention.chunk_size", default=_CHUNK)


def _windowed(fields: Fields, architecture: str, index: int) -> bool:
    """Whether a block keeps a window of tokens: by the file's pattern, else by the architecture's own rule."""
    if architecture == _CHUNKED:
        return (index + 1) % 4 != 0
    window = fields.values.get("attention.sliding_window")
    if not isinstance(window, int) or window < 1:
        return False
    pattern = fields.values.get("attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        items = cast("tuple[object, ...]", pattern)
        return index < len(items) and bool(items[index])
    every = pattern if isinstance(pattern, int) and pattern > 1 else _FULL_EVERY.get(architecture)
    return architecture in _ALL_SLIDE if every is None else (index + 1) % every != 0
