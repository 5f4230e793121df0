"""Turns a Hugging Face folder into ModelFacts; knows which of its files an engine needs, and no engine."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.config import architecture_from_config
from corral.models.demo import NAME
from corral.models.hf_config import Config, read_config
from corral.models.jsonfile import read_object
from corral.models.safetensors import Tensor, read_header
from corral.models.shards import require, shard_names
from corral.models.values import ModelFacts
from corral.models.weights import weights_by_class
from corral.units import MIB

_INDEX: Final = "model.safetensors.index.json"
_BESIDE: Final = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_EMBEDDING: Final = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "tok_embeddings.weight")
_DTYPES: Final = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.")
# Beside packed weights, what is needed to unpack them is no parameter of the model.
_UNPACKING: Final = re.compile(r"(?:scales?|scale_inv|scale_2|qzeros|zero_point|g_idx|weight_shape)$")


def read_folder(folder: Path) -> ModelFacts:
    """Read a folder with config.json and safetensors files. BadInput when it cannot be a model."""
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no config.json and no GGUF file.", "Give a model's folder, or its GGUF file.")
    config = read_config(folder / "config.json")
    weights = _weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for name in weights:
        tensors |= read_header(folder / name).tensors
    _check(config, tensors, folder)
    beside = sorted(path.name for path in folder.iterdir() if path.suffix in _BESIDE and path.is_file())
    embeds = config.architecture.endswith("Model") or "modules.json" in beside
    if embeds:  # how an embedding model pools stands in folders of its own
        beside += sorted(str(path.relative_to(folder)) for path in folder.glob("[0-9]_*/*.json"))
    anatomy = _anatomy(folder)
    return ModelFacts(
        name=NAME if config.demo else folder.absolute().name.lower(),
        path=str(folder.absolute()),
        format="safetensors",
        files=tuple((name, (folder / name).stat().st_size) for name in (*weights, *beside)),
        architecture=config.architecture,
        quantization=config.quantization or _main_dtype(tensors),
        weights_bytes=sum(tensor.bytes for tensor in tensors.values()),
        parameters=sum(_parameters(name, tensor, config) for name, tensor in tensors.items()),
        layers=config.layers,
        hidden=config.hidden,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        context=config.context,
        vocabulary=config.vocabulary,
        experts=config.experts,
        embeds=embeds,
        chat=_has_chat_template(folder),
        demo=config.demo,
        embedding_bytes=_bytes(tensors, *_EMBEDDING),
        head_bytes=0 if config.tied else _bytes(tensors, "lm_head.weight"),
        kv_values=config.kv_values,
        anatomy=anatomy,
        weights=weights_by_class(((name, tensor.bytes) for name, tensor in tensors.items()), anatomy.layers)
        if anatomy
        else None,
    )


def _anatomy(folder: Path) -> ModelArchitecture | None:
    """The architecture, where it is known: an engine may run one that is not."""
    name = folder.absolute().name.lower()
    try:
        return architecture_from_config(
            read_object(folder / "config.json"), name=name, source=str(folder / "config.json"), id=name
        )
    except BadInput:
        return None


def _weight_files(folder: Path) -> tuple[str, ...]:
    """The safetensors files, by the index or by the names of the parts; BadInput names those that are missing."""
    if (folder / _INDEX).is_file():
        names = _indexed(folder / _INDEX)
    else:
        there = sorted(path.name for path in folder.glob("*.safetensors"))
        own = [name for name in there if name.startswith("model")] or there
        names = tuple(dict.fromkeys(part for name in own for part in shard_names(name)))
    if not names:
        pickled = next(folder.glob("*.bin"), None)
        raise BadInput(
            f"{folder} holds no safetensors file" + (f", only {pickled.name}." if pickled else "."),
            "Use a copy of the model in safetensors or GGUF form.",
        )
    require(folder, names)
    return names


def _indexed(path: Path) -> tuple[str, ...]:
    """The files that an index names. A name with a path in it could point anywhere, and is refused."""
    weight_map = read_object(path, limit=64 * MIB).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput(f"{path}: weight_map is missing.", "Fetch it again.")
    names = sorted({str(name) for name in cast("dict[str, object]", weight_map).values()})
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInput(
                f"{path}: weight_map names {name[:80]!r}, which is no file of this folder.", "Fetch it again."
            )
    return tuple(names)


def _check(config: Config, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse a config.json that the tensors contradict."""
    numbered = [int(found[1]) for name in tensors if (found := _LAYER.search(name))]
    if numbered and max(numbered) + 1 < config.layers:
        raise BadInput(
            f"{folder / 'config.json'}: num_hidden_layers is {config.layers}, but the tensors are of"
            f" {max(numbered) + 1} layers.",
            "Fetch the model again.",
        )
    for name, tensor in tensors.items():
        if name.endswith("embed_tokens.weight") and "per_layer" not in name and "visual" not in name:
            packed = tensor.dtype.startswith(("I", "U"))
            if len(tensor.shape) == 2 and not packed and config.hidden not in tensor.shape:
                raise BadInput(
                    f"{folder / 'config.json'}: hidden_size is {config.hidden}, but {name} has the shape"
                    f" {' x '.join(map(str, tensor.shape))}.",
                    "Fetch the model again.",
                )


def _parameters(name: str, tensor: Tensor, config: Config) -> int:
    """Parameters that a tensor holds: packed ones are counted unpacked, scales not at all."""
    if _UNPACKING.search(name):
        return 0
    if config.quantized_bits and tensor.dtype == "I32":
        return tensor.elements * (32 // config.quantized_bits)
    if tensor.dtype == "U8":
        return tensor.elements * 2  # two four-bit values a byte: MXFP4, NVFP4, bitsandbytes
    return tensor.elements


def _main_dtype(tensors: Mapping[str, Tensor]) -> str:
    by_type: Counter[str] = Counter()
    for tensor in tensors.values():
        by_type[tensor.dtype] += tensor.bytes
    main = by_type.most_common(1)[0][0] if by_type else "unknown"
    return _DTYPES.get(main, main)


def _bytes(tensors: Mapping[str, Tensor], *endings: str) -> int:
    return sum(tensor.bytes for name, tensor in tensors.items() if name.endswith(endings) and "visual" not in name)


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(read_object(config, limit=32 * MIB).get("chat_template"))
