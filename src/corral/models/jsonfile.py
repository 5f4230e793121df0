"""Reads JSON objects that nobody vouches for, up to a stated size; knows no key of them."""

import json
from pathlib import Path
from typing import Any, cast

from corral.errors import BadInput
from corral.units import MIB, format_bytes


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`. BadInput, naming `name`, when it is none."""
    try:
        value = json.loads(data)
    except RecursionError:
        raise BadInput(f"{name} is damaged: its JSON is nested too deeply.", "Fetch it again.") from None
    except ValueError as error:  # also: broken UTF-8, numbers of thousands of digits
        raise BadInput(f"{name} is damaged: its JSON cannot be read ({_where(error)}).", "Fetch it again.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{name} is damaged: it holds no JSON object.", "Fetch it again.")
    return cast("dict[str, Any]", value)


def read_object(path: Path, limit: int = 4 * MIB) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes. BadInput when it is missing, larger, or is none."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "Fetch the model again.") from None
    if len(data) > limit:
        raise BadInput(f"{path} is larger than {format_bytes(limit)}.", "Give a model's own folder.")
    return parse_object(data, str(path))


def _where(error: ValueError) -> str:
    return f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)[:80]
