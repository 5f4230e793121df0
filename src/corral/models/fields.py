"""Reads numbers, flags and lists out of untrusted metadata and refuses absurd ones by name; knows no format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from corral.errors import BadInput

# An upper bound for each count, far above the largest model there is: what exceeds it is a damaged or lying file.
LIMITS: Final = {
    "layers": 4096,
    "hidden": 1_048_576,
    "heads": 65_536,
    "kv_heads": 65_536,
    "head_dim": 65_536,
    "width": 2**24,
    "context": 2**30,
    "window": 2**30,
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
            if value is not None:
                return self._whole(kind, key, value, least)
        if default is None:
            raise self.refused(keys[0], "is missing")
        return default

    def counts(self, kind: str, key: str, layers: int) -> tuple[int, ...] | None:
        """The list of whole numbers under `key`, one a layer (more are cut off); None when there is no list."""
        items = self._one_a_layer(key, layers)
        return None if items is None else tuple(self._whole(kind, key, item, 0) for item in items)

    def words(self, key: str, layers: int) -> tuple[str, ...] | None:
        """The list of words under `key`, one a layer (more are cut off); None when there is no list."""
        items = self._one_a_layer(key, layers)
        if items is None:
            return None
        words = tuple(item for item in items if isinstance(item, str))
        if len(words) != len(items):
            raise self.refused(key, "holds something else than words")
        return words

    def items(self, key: str) -> tuple[object, ...] | None:
        """The list under `key`; None when there is none."""
        value = self.values.get(key)
        return tuple(cast("list[object] | tuple[object, ...]", value)) if isinstance(value, list | tuple) else None

    def flag(self, *keys: str, default: bool = False) -> bool:
        """The truth value under the first of `keys` that is there."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, bool):
                return value
            if value is not None:
                raise self.refused(key, f"is {str(value)[:40]!r}, where true or false is expected")
        return default

    def has(self, key: str) -> bool:
        """Whether the key is there with a value."""
        return self.values.get(key) is not None

    def section(self, *keys: str) -> "Fields | None":
        """The object under the first of `keys` that is one; None when there is none."""
        for key in keys:
            value = self.values.get(key)
            if isinstance(value, dict):
                return Fields(self.file, cast("dict[str, Any]", value))
        return None

    def _whole(self, kind: str, key: str, value: object, least: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refused(key, f"is {str(value)[:40]!r}, where a whole number is expected")
        if not least <= value <= LIMITS[kind]:
            raise self.refused(key, f"is {_shorten(value)}, where {least} to {LIMITS[kind]} is expected")
        return value

    def _one_a_layer(self, key: str, layers: int) -> tuple[object, ...] | None:
        items = self.items(key)
        if items is None or len(items) >= layers:
            return items and items[:layers]
        raise self.refused(key, f"has {len(items)} entries for {layers} layers")


def _shorten(value: int) -> str:
    """Huge whole numbers by their size alone: their digits would fill the screen."""
    return str(value) if abs(value) < 10**20 else f"a number of {value.bit_length()} bits"
