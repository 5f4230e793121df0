"""What a request's body says about itself, and the two changes that are ever made to it; pure, knows no engine.

A body is JSON of any size. It is checked from end to end, but only the few fields named here are built; the prompt
stays the bytes that came. A change leaves every other value byte for byte as it was.
"""

import re
from hashlib import blake2b
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from corral.gateway import errors
from corral.units import KIB

_NOTHING: Final = Raw()
_NULL: Final = b"null"
_DIGITS: Final = 9  # of a token count that is believed; int() of endless digits takes endless time

# Prompts that begin alike must be cut alike, whatever their lengths: 1 KiB at first, later an eighth of what lies
# before, so that 64 digests reach to 3.7 MiB.
_DIGESTS: Final = 64
_DIGEST_BYTES: Final = 8


def _block_ends() -> tuple[int, ...]:
    ends = [KIB]
    while len(ends) < _DIGESTS:
        ends.append(ends[-1] + max(KIB, ends[-1] // 8 // KIB * KIB))
    return tuple(ends)


_BLOCK_ENDS: Final = _block_ends()

_BYTES_A_TOKEN: Final = 4  # of English text in today's vocabularies; a rough figure is enough for limits and routing
_PICTURE: Final = re.compile(rb";base64,[A-Za-z0-9+/=]*")
_PICTURE_MARK: Final = b";base64,"
_PICTURE_TOKENS: Final = 1024  # 896 x 896 pixels in patches of 28 x 28, as Qwen2-VL takes them

# Half a character in UTF-16, such as JavaScript makes when it cuts text within an emoji: JSON allows it, as an escape.
# Escaped backslashes and whole pairs are matched too, so that nothing is taken for a half that is none.
_HALF: Final = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_UNKNOWN_CHARACTER: Final = rb"\ufffd"

_KINDS: Final = {ord("["): "an array", ord('"'): "a string", ord("t"): "a truth value", ord("f"): "a truth value"}
_KINDS.update(dict.fromkeys(b"-0123456789", "a number"))
_KINDS[ord("n")] = "null"


# By OpenAI's and Anthropic's names, in the order in which engines' chat templates place them.
_prompt: Final = attrgetter("tools", "system", "instructions", "messages", "prompt", "input", "query", "documents")


class _Fields(msgspec.Struct):
    """The fields that are looked at, as the bytes they came in; empty where there are none."""

    model: Raw = _NOTHING
    stream: Raw = _NOTHING
    store: Raw = _NOTHING
    stream_options: Raw = _NOTHING
    max_completion_tokens: Raw = _NOTHING
    max_tokens: Raw = _NOTHING
    max_output_tokens: Raw = _NOTHING
    tools: Raw = _NOTHING
    system: Raw = _NOTHING
    instructions: Raw = _NOTHING
    messages: Raw = _NOTHING
    prompt: Raw = _NOTHING
    input: Raw = _NOTHING
    query: Raw = _NOTHING
    documents: Raw = _NOTHING


class Body(msgspec.Struct, frozen=True):
    """A request's body and what could be read in it."""

    raw: bytes
    model: str | None  # None: absent, null or empty
    streams: bool
    stores: bool  # the engine may keep its answer; it is not told that it must not
    tells_usage: bool  # the client itself asked for the usage at the end of its stream
    output_tokens: int  # the most that the client allows; 0: it does not say
    prompt: tuple[Raw, ...]  # the parts that make the prompt, as they came

    def prompt_tokens(self) -> int:
        """Roughly how many tokens the prompt has, from its size; pictures count as pictures, not as their bytes."""
        size = sum(len(memoryview(part)) for part in self.prompt)
        pictures = 0
        if _PICTURE_MARK in self.raw:
            for part in self.prompt:
                found = [match.end() - match.start() for match in _PICTURE.finditer(part)]
                size -= sum(found)
                pictures += len(found)
        return size // _BYTES_A_TOKEN + pictures * _PICTURE_TOKENS

    def prefix(self) -> tuple[bytes, ...]:
        """Digests of the prompt up to the end of each whole block, shortest first; 64 at most."""
        whole = b"\0".join(memoryview(part) for part in self.prompt) if len(self.prompt) > 1 else b"".join(self.prompt)
        digest = blake2b(digest_size=_DIGEST_BYTES)
        view, start, found = memoryview(whole), 0, list[bytes]()
        for end in _BLOCK_ENDS:
            if end > len(view):
                break
            digest.update(view[start:end])
            found.append(digest.copy().digest())
            start = end
        return tuple(found)


_FIELDS: Final = msgspec.json.Decoder(_Fields)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_STRING: Final = msgspec.json.Decoder(str | None)
_T = TypeVar("_T")


def read(raw: bytes) -> Body:
    """Read a body; ApiError when it is no JSON object in UTF-8 or names its model by anything but a string."""
    try:
        if not raw.isascii():
            raw.decode()
        fields = _decoded(_FIELDS, raw)
    except RecursionError:
        raise errors.broken_body("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise errors.broken_body(f"it is not UTF-8 at byte {error.start}") from None
    except msgspec.ValidationError:
        raise errors.broken_body(f"it is {_KINDS[raw.lstrip()[0]]}") from None
    except msgspec.DecodeError as error:
        raise errors.broken_body(str(error)) from None
    return Body(
        raw,
        _model(fields.model),
        bytes(fields.stream) == b"true",
        bytes(fields.store) != b"false",
        fields.stream_options is not _NOTHING and _tells_usage(fields.stream_options),
        _count(fields.max_completion_tokens) or _count(fields.max_tokens) or _count(fields.max_output_tokens),
        tuple([part for part in _prompt(fields) if part is not _NOTHING]),
    )


def renamed(raw: bytes, model: str) -> bytes:
    """The body with another `model`."""
    return _with(raw, "model", msgspec.json.encode(model))


def with_usage(raw: bytes) -> bytes:
    """The body of a streaming request that asks for the usage at the end, whatever the client says of that."""
    if b'"stream_options"' not in raw and (
        b"\\u00" not in raw or _decoded(_FIELDS, raw).stream_options is _NOTHING  # a name can be spelt with escapes
    ):
        start = raw.index(b"{") + 1
        comma = b"" if raw[start : start + 100].lstrip().startswith(b"}") else b","
        return b'%b"stream_options":{"include_usage":true}%b%b' % (raw[:start], comma, raw[start:])
    options = _decoded(_OBJECT, raw).get("stream_options", _NULL)
    try:
        merged = {} if bytes(options) == _NULL else _decoded(_OBJECT, options)
    except msgspec.ValidationError:  # the engine is to say what it thinks of it
        return raw
    return _with(raw, "stream_options", msgspec.json.encode(merged | {"include_usage": Raw(b"true")}))


def _with(raw: bytes, name: str, value: bytes) -> bytes:
    return msgspec.json.encode(_decoded(_OBJECT, raw) | {name: Raw(value)})


def _decoded(decoder: msgspec.json.Decoder[_T], raw: bytes | Raw) -> _T:
    """Decode, and take half characters for unknown ones where the decoder, unlike engines, stops at them."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        mended = _HALF.sub(lambda match: _UNKNOWN_CHARACTER if match[1] else match[0], bytes(raw))
        return decoder.decode(mended)


def _model(value: Raw) -> str | None:
    try:
        return None if value is _NOTHING else _STRING.decode(value) or None
    except msgspec.DecodeError:
        raise errors.wrong_model_type() from None


def _tells_usage(options: Raw) -> bool:
    try:
        return bytes(_OBJECT.decode(options).get("include_usage", b"")) == b"true"
    except msgspec.DecodeError:
        return False


def _count(value: Raw) -> int:
    if value is _NOTHING:
        return 0
    text = bytes(value)
    return int(text) if text.isdigit() and len(text) <= _DIGITS else 0
