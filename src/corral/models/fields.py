"""Reads whole numbers out of untrusted metadata and refuses absurd ones by name; knows no format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from corral.errors import BadInput

# An upper bound for each count, far above the largest model there is: what exceeds it is a damaged or lying file.
LIMITS: Final = {
    "layers": 4096,
    "hidden": 1_048_576,
    "heads": 65_536,
    "kv_heads": 65_536,
    "head_dim": 65_536,
    "context": 2**30,
    "vocabulary": 2**26,
    "experts": 65_536,
}


@dataclass(frozen=True, slots=True)
class Fields:
    """Metadata of one file, with that file's name for the messages."""

    file: str
    values: Mapping[str, object]

    def refused(self, key: str, why: str) -> BadInput:
        """The error for a field that cannot be true."""
        return BadInput(
            f"{self.file}: {key} {why}.", "The file is damaged or was edited; fetch the model again or correct it."
        )

    def count(self, kind: str, *keys: str, default: int | None = None, least: int = 1) -> int:
        """The whole number under the first of `keys` that is there; `kind` names its limit.

        BadInput when it is none, is out of bounds, or is missing without a default.
        """
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise self.refused(key, f"is {str(value)[:40]!r}, where a whole number is expected")
            if not least <= value <= LIMITS[kind]:
                raise self.refused(key, f"is {_shorten(value)}, where {least} to {LIMITS[kind]} is expected")
            return value
        if default is None:
            raise self.refused(keys[0], "is missing")
        return default


def _shorten(value: int) -> str:
    """Huge whole numbers by their size alone: their digits would fill the screen."""
    return str(value) if abs(value) < 10**20 else f"a number of {value.bit_length()} bits"
