"""Which model a request's body asks for, and the body for another; pure, and looks at nothing else in it."""

import json
from collections.abc import Mapping
from typing import Final, cast

import msgspec

from corral.gateway import errors

_WORDS: Final[Mapping[type, str]] = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a truth value",
}


def model_of(body: bytes) -> str | None:
    """The body's `model`, or None when it is absent, null or empty; ApiError when the body is no JSON object."""
    try:
        # Text first: given bytes, json would also take UTF-16 and UTF-32, which no engine does.
        parsed: object = json.loads(body.decode())
    except RecursionError:
        raise errors.broken_body("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise errors.broken_body(f"it is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        raise errors.broken_body(str(error)) from None
    if not isinstance(parsed, dict):
        raise errors.broken_body(f"it is {_WORDS.get(type(parsed), 'null')}")
    model = cast("dict[str, object]", parsed).get("model")
    if model is None or isinstance(model, str):
        return model or None
    raise errors.wrong_model_type()


def with_model(body: bytes, name: str) -> bytes:
    """The same body with another `model`; every other value keeps the bytes that it came in."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return msgspec.json.encode(fields | {"model": name})
