"""Reads the header of a safetensors file, and no more of it than that; knows the format, not what a model is.

The format: 8 bytes length of the header, little-endian; the header, JSON; the data. github.com/huggingface/safetensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from corral.errors import BadInput
from corral.models.jsonfile import parse_object
from corral.units import format_bytes

# Bits of one element, by the format's own words (safetensors/src/tensor.rs).
_BITS: Final = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64,
}  # fmt: skip
_MAX_HEADER: Final = 100_000_000  # the format's own limit
_MAX_ELEMENTS: Final = 2**50


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry; `bytes` is its size in the file."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """How many elements it holds, as stored (packed quantizations put several values into one)."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of one file by name, and its free-form metadata."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, object]


def read_header(path: Path) -> Header:
    """Read the header of a file. BadInput when it is no safetensors file, is damaged or is cut short."""
    with path.open("rb") as file:
        return parse_header(file, str(path))


def parse_header(file: BinaryIO, name: str) -> Header:
    """Read the header of an open file; as `read_header`, with `name` for the messages."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise BadInput(f"{name} is cut short: it has {size} bytes.", "Fetch it again.")
    if length > _MAX_HEADER:
        raise BadInput(f"{name} is no safetensors file: its header claims {length} bytes.", "Fetch it again.")
    if length > size - 8:
        raise BadInput(f"{name} is cut short: its header is not complete.", "Fetch it again.")
    entries = parse_object(file.read(length), name)
    metadata = entries.pop("__metadata__", None)
    tensors = {key: _tensor(key, entry, name) for key, entry in entries.items()}
    end = 8 + length + max((end for _, end in tensors.values()), default=0)
    if size != end:
        how = f"{format_bytes(end - size)} ({end - size} bytes) of its {format_bytes(end)} are missing"
        raise BadInput(
            f"{name} is cut short: {how}." if size < end else f"{name} is damaged: it has {size - end} bytes too many.",
            "Fetch it again.",
        )
    return Header(
        {key: tensor for key, (tensor, _) in tensors.items()},
        cast("dict[str, object]", metadata) if isinstance(metadata, dict) else {},
    )


def _tensor(key: str, entry: object, name: str) -> tuple[Tensor, int]:
    """The tensor of one entry, and where its data ends. What the entry says has to agree with itself."""
    fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise BadInput(f"{name} is damaged: its entry for {key!r} is no tensor.", "Fetch it again.")
    if dtype not in _BITS:
        raise BadInput(
            f"{name} stores {key} as {dtype[:20]!r}, which this version of Corral does not know.",
            "Update Corral, or use the model in another quantization.",
        )
    start, end = offsets
    if start > end or prod(shape) > _MAX_ELEMENTS or -(-prod(shape) * _BITS[dtype] // 8) != end - start:
        raise BadInput(f"{name} is damaged: the size of {key} does not agree with its shape.", "Fetch it again.")
    return Tensor(dtype, shape, end - start), end


def _counts(value: object) -> tuple[int, ...] | None:
    """A JSON list of whole numbers from 0 to 2**63, as a tuple; None when it is something else."""
    items = cast("list[object]", value) if isinstance(value, list) and len(cast("list[object]", value)) <= 8 else None
    if items is None:
        return None
    counts = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63)
    return counts if len(counts) == len(items) else None
