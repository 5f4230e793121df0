"""Field types that a file writes with their unit and that memory holds as a number; knows no field's meaning.

In Python and in JSON such a field is a plain number (bytes, bytes a second, watts, volts, amperes, seconds). In a file,
which is read and written with the context `FILE`, it is text with a unit, and a plain number is refused.
"""

from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, SerializationInfo, StringConstraints, ValidationInfo

from corral import units

FILE: Final = {"written": "in a file"}
"""The pydantic context under which quantities are text with a unit."""


def _reader(parse: Callable[[str], float], example: str) -> BeforeValidator:
    def read(written: object, info: ValidationInfo) -> object:
        if isinstance(written, str):
            return parse(written)
        if info.context is not FILE:
            return written
        msg = f"{written!r} has no unit: text such as {example!r} is expected"
        raise ValueError(msg)

    return BeforeValidator(read)


def _writer(write: Callable[..., str]) -> PlainSerializer:
    def serialize(number: float, info: SerializationInfo) -> object:
        return write(number) if info.context is FILE else number

    return PlainSerializer(serialize)


Bytes: TypeAlias = Annotated[
    int, Field(ge=0, le=2**60), _reader(units.parse_bytes, "128 GiB"), _writer(units.exact_bytes)
]
"""A size in bytes; in a file "128 GiB" or "500 GB"."""

Rate: TypeAlias = Annotated[
    int, Field(gt=0, le=2**60), _reader(units.parse_rate, "200 Gb/s"), _writer(units.exact_rate)
]
"""Bytes a second; in a file "200 Gb/s" or "273 GB/s"."""

Operations: TypeAlias = Annotated[
    float, Field(ge=1e6, le=1e21), _reader(units.parse_operations, "125 TFLOPS"), _writer(units.exact_operations)
]
"""Operations a second; in a file "125 TFLOPS" or "62 TOPS"."""

Watts: TypeAlias = Annotated[
    float, Field(ge=1e-3, le=1e6), _reader(units.parse_watts, "300 W"), _writer(units.exact_watts)
]
"""Watts; in a file "300 W"."""

Volts: TypeAlias = Annotated[
    float, Field(ge=1e-3, le=1e5), _reader(units.parse_volts, "120 V"), _writer(units.exact_volts)
]
"""Volts; in a file "120 V"."""

Amps: TypeAlias = Annotated[float, Field(ge=1e-3, le=1e4), _reader(units.parse_amps, "15 A"), _writer(units.exact_amps)]
"""Amperes; in a file "15 A"."""

Seconds: TypeAlias = Annotated[
    float, Field(ge=1e-12, le=1e6), _reader(units.parse_duration, "2 us"), _writer(units.exact_duration)
]
"""Seconds; in a file "2 us" or "1.5 ms"."""

Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]+$")]
"""A line of text without control characters."""

Name: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
"""A name of 1 to 63 letters, digits, dots, dashes and underscores, as host names have."""
