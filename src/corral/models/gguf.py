"""Reads a GGUF file's header, and no more of it than that; knows the format, not what a model is.

Nothing in the file is trusted: every count and length is held against a limit and against the bytes that are there
before anything is allocated, and big arrays (a tokenizer's 150,000 strings) are stepped over. The format:
github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import BinaryIO, Final, TypeAlias

from corral.errors import BadInput
from corral.models.ggml_types import TENSOR_TYPES, TensorType
from corral.units import MIB, format_bytes

MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
# Limits far above any real file's: the largest models have a few thousand tensors and some hundred metadata keys.
_MAX_KEYS: Final = 65_536
_MAX_TENSORS: Final = 262_144
_MAX_NAME: Final = 1024
_MAX_STRINGS: Final = 8_388_608
_MAX_KEPT_STRING: Final = 1 * MIB
_MAX_KEPT_BYTES: Final = 4 * MIB
_MAX_KEPT_NUMBERS: Final = 1024
_MAX_DIMENSIONS: Final = 8
_MAX_ELEMENTS: Final = 2**50

_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final = {
    0: struct.Struct("<B"), 1: struct.Struct("<b"), 2: struct.Struct("<H"), 3: struct.Struct("<h"),
    4: struct.Struct("<I"), 5: struct.Struct("<i"), 6: struct.Struct("<f"), 7: struct.Struct("<?"),
    10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d"),
}  # fmt: skip
_U32: Final = _SCALARS[4]
_U64: Final = _SCALARS[10]


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array that was stepped over: how many elements it has."""

    count: int


Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Scalar | tuple[Scalar, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's entry. `shape` is in ggml's order: the fastest dimension first."""

    name: str
    shape: tuple[int, ...]
    type: TensorType
    offset: int  # bytes from the start of the data

    @property
    def elements(self) -> int:
        """How many values it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it takes."""
        return -(-self.elements // self.type.elements) * self.type.bytes


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the data, which starts at byte `data_start`."""

    metadata: Mapping[str, Metadata]
    tensors: tuple[Tensor, ...]
    data_start: int


def read_header(file: BinaryIO, name: str) -> Header:
    """Read the header of an open file. BadInput, naming `name`, when it is no GGUF, is damaged or is cut short."""
    reader = _Reader(file, name)
    if reader.take(4) != MAGIC:
        raise BadInput(f"{name} is no GGUF file: it does not start with the letters GGUF.", "Give a GGUF file.")
    version = reader.number(_U32)
    if version not in _VERSIONS:
        raise BadInput(
            f"{name} has GGUF version {version}; {' and '.join(map(str, _VERSIONS))} are known.",
            "Convert the model again with a current llama.cpp (on a little-endian machine).",
        )
    tensor_count, key_count = reader.number(_U64), reader.number(_U64)
    reader.allow(tensor_count, _MAX_TENSORS, smallest=24, what="tensors")
    reader.allow(key_count, _MAX_KEYS, smallest=13, what="metadata keys")
    metadata: dict[str, Metadata] = {}
    for _ in range(key_count):
        key = reader.text(_MAX_NAME, "a metadata key")
        metadata[key] = reader.value(reader.number(_U32), key)
    tensors = tuple(reader.tensor() for _ in range(tensor_count))
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= MIB:
        raise reader.damaged(f"its general.alignment is {alignment!r}")
    header = Header(metadata, tensors, -(-reader.position // alignment) * alignment)
    _check_complete(header, reader)
    return header


def _check_complete(header: Header, reader: "_Reader") -> None:
    end = header.data_start + max((tensor.offset + tensor.bytes for tensor in header.tensors), default=0)
    if header.tensors and end > reader.size:
        raise BadInput(
            f"{reader.name} is cut short: {format_bytes(end - reader.size)} ({end - reader.size} bytes) of its"
            f" {format_bytes(end)} are missing.",
            "Fetch it again.",
        )


class _Reader:
    """Reads a header's pieces, each only after it is known to be there."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.size = file.seek(0, 2)
        self.position = 0
        self._file = file
        self._kept = 0
        file.seek(0)

    def damaged(self, how: str) -> BadInput:
        return BadInput(f"{self.name} is damaged: {how} (at byte {self.position}).", "Fetch it again.")

    def allow(self, count: int, limit: int, *, smallest: int, what: str) -> None:
        """Refuse a count above `limit`, or one whose smallest possible size is more than what is left of the file."""
        if count > limit:
            raise self.damaged(f"it claims {count} {what}")
        if count * smallest > self.size - self.position:
            raise BadInput(f"{self.name} is cut short: its header is not complete.", "Fetch it again.")

    def take(self, count: int) -> bytes:
        data = self._file.read(count) if count <= self.size - self.position else b""
        if len(data) < count:
            raise BadInput(f"{self.name} is cut short: its header is not complete.", "Fetch it again.")
        self.position += count
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.position:
            raise BadInput(f"{self.name} is cut short: its header is not complete.", "Fetch it again.")
        self._file.seek(count, 1)
        self.position += count

    def number(self, form: struct.Struct) -> int:
        return form.unpack(self.take(form.size))[0]

    def text(self, limit: int, what: str) -> str:
        length = self.number(_U64)
        self._kept += min(length, limit)
        if length > limit or self._kept > _MAX_KEPT_BYTES:
            raise self.damaged(f"{what} claims {length} bytes")
        return self.take(length).decode(errors="replace")

    def value(self, kind: int, key: str) -> Metadata:
        if kind == _STRING:
            return self.text(_MAX_KEPT_STRING, key)
        if kind == _ARRAY:
            return self._array(key)
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        raise self.damaged(f"{key} has the unknown type {kind}")

    def _array(self, key: str) -> Metadata:
        kind, count = self.number(_U32), self.number(_U64)
        if kind == _STRING:
            self.allow(count, _MAX_STRINGS, smallest=8, what=f"strings in {key}")
            for _ in range(count):
                self.skip(self.number(_U64))
            return Skipped(count)
        if kind not in _SCALARS:
            raise self.damaged(f"{key} is an array of the unknown type {kind}")
        form = _SCALARS[kind]
        if count > _MAX_KEPT_NUMBERS:
            self.skip(count * form.size)
            return Skipped(count)
        return tuple(self.number(form) for _ in range(count))

    def tensor(self) -> Tensor:
        name = self.text(_MAX_NAME, "a tensor's name")
        dimensions = self.number(_U32)
        if dimensions > _MAX_DIMENSIONS:
            raise self.damaged(f"tensor {name} has {dimensions} dimensions")
        shape = tuple(self.number(_U64) for _ in range(dimensions))
        if prod(shape) > _MAX_ELEMENTS:
            raise self.damaged(f"tensor {name} claims the shape {shape}")
        kind, offset = self.number(_U32), self.number(_U64)
        if kind not in TENSOR_TYPES:
            raise BadInput(
                f"{self.name} stores {name} as tensor type {kind}, which this version of Corral does not know.",
                "Update Corral, or use the model in another quantization.",
            )
        return Tensor(name, shape, TENSOR_TYPES[kind], offset)
