"""What the gateway reads of a request's body: the model, whether it streams, how long the prompt is; pure.

Of a body of a hundred thousand tokens only the few fields named here are built; the prompt itself stays bytes. Bodies
go on to engines as they came, but for another model's name where an alias or a fallback is meant.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from corral.gateway import errors

# Bytes of JSON for each token of a prompt: a first guess, until the engine counts. English text has about 4.
_BYTES_A_TOKEN: Final = 4
_INLINE: Final = re.compile(rb'"data:[\w.+-]+/[^"]*"')  # an image or a sound within the JSON
_INLINE_TOKENS: Final = 1000  # of one of these; encoders make a few hundred to a few thousand
_BLOCK: Final = 1024  # bytes of a prompt's first blocks
_GROWTH: Final = 8  # a later block is an eighth of all before it, so that a long prompt has some dozens of them
_DIGEST: Final = 8  # bytes
_EMPTY: Final = msgspec.Raw()
_WORDS: Final = {
    "array": "an array",
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "a truth value",
    "null": "null",
}


class _Fields(msgspec.Struct):
    """The fields that are read. Any type but the model's passes: what is wrong there is for the engine to say."""

    model: str | None = None
    stream: msgspec.Raw = _EMPTY
    store: msgspec.Raw = _EMPTY
    stream_options: msgspec.Raw = _EMPTY
    max_tokens: msgspec.Raw = _EMPTY
    max_completion_tokens: msgspec.Raw = _EMPTY
    max_output_tokens: msgspec.Raw = _EMPTY
    # What engines put before what: the order of their chat templates.
    tools: msgspec.Raw = _EMPTY
    system: msgspec.Raw = _EMPTY
    instructions: msgspec.Raw = _EMPTY
    query: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY
    prompt: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    documents: msgspec.Raw = _EMPTY


_decoder: Final = msgspec.json.Decoder(_Fields)
_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body, and what was read of it."""

    raw: bytes
    model: str | None  # None: absent, null or empty
    streams: bool
    stores: bool | None  # whether the engine is asked to keep its answer; None: it does not say
    reports_usage: bool  # a stream that ends with its usage
    prompt_tokens: int  # estimated
    output_tokens: int  # the most that is allowed; 0: it does not say
    prefix: tuple[bytes, ...]  # a digest of the prompt up to the end of each whole block


def read_body(raw: bytes) -> Body:
    """Read a body; ApiError when it is no JSON object or its model no string."""
    if not raw.isascii():
        _check_utf8(raw)
    try:
        fields = _decoder.decode(raw)
    except RecursionError:
        raise errors.broken_body("it is nested too deeply") from None
    except msgspec.ValidationError as error:
        if "$.model" in str(error):
            raise errors.wrong_model_type() from None
        raise errors.broken_body(f"it is {_WORDS[str(error).rpartition('`')[0].rpartition('`')[2]]}") from None
    except (msgspec.DecodeError, ValueError) as error:
        why = str(error).removeprefix("JSON is malformed: ")
        raise errors.broken_body("it is cut short" if "truncated" in why else why) from None
    prompt = (fields.tools, fields.system, fields.instructions, fields.query, fields.messages, fields.prompt,
              fields.input, fields.documents)  # fmt: skip
    parts = [bytes(part) for part in prompt if part is not _EMPTY]
    streams = bytes(fields.stream) == b"true"
    return Body(
        raw=raw,
        model=fields.model or None,
        streams=streams,
        stores=_truth(bytes(fields.store)),
        reports_usage=streams and b'"include_usage"' in bytes(fields.stream_options),
        prompt_tokens=sum(map(_tokens, parts)),
        output_tokens=_count(fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens),
        prefix=tuple(_digests(parts)),
    )


def renamed(raw: bytes, model: str) -> bytes:
    """The body with another model's name; every other value is byte for byte what it was."""
    return _replaced(raw, "model", msgspec.json.encode(model))


def _replaced(raw: bytes, name: str, value: bytes) -> bytes:
    members = _members.decode(raw)
    members[name] = msgspec.Raw(value)
    return msgspec.json.encode(members)


def _check_utf8(raw: bytes) -> None:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise errors.broken_body(f"it is not UTF-8 at byte {error.start}") from None


def _truth(raw: bytes) -> bool | None:
    return {b"true": True, b"false": False}.get(raw)


def _count(*fields: msgspec.Raw) -> int:
    """The first that is a sensible number of tokens."""
    for field in fields:
        digits = bytes(field)
        if digits.isdigit() and len(digits) < 10:
            return int(digits)
    return 0


def _tokens(part: bytes) -> int:
    inline = _INLINE.findall(part) if b'"data:' in part else ()
    return (len(part) - sum(map(len, inline))) // _BYTES_A_TOKEN + _INLINE_TOKENS * len(inline)


def _digests(parts: list[bytes]) -> Iterator[bytes]:
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    digest = hashlib.sha256()
    at, size = 0, _BLOCK
    while at + size <= len(whole):
        digest.update(whole[at : at + size])
        yield digest.copy().digest()[:_DIGEST]
        at += size
        size = max(_BLOCK, at // _GROWTH)
