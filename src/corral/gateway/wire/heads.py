"""What is wrong with a request's head, beyond what the parser sees; pure."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from corral.gateway import errors
from corral.gateway.errors import ApiError
from corral.gateway.wire.limits import Limits

# Two readers of a request that has two of these may each believe another one.
_SINGLE: Final = frozenset((b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding"))
_Headers = Sequence[tuple[bytes, bytes]]


class _Parser(Protocol):
    def get_method(self) -> bytes: ...
    def get_http_version(self) -> str: ...


def fault(url: bytes, headers: _Headers, fields: Mapping[bytes, bytes], limits: Limits) -> ApiError | None:
    """Why this head is refused; None: it is not. `fields` are the headers as a mapping.

    A compressed body is refused whole. No client of OpenAI's compresses one; to inflate it would need a second bound,
    since a few bytes can become any number, and engines do not take it either.
    """
    size = len(url) + sum([len(name) + len(value) + 4 for name, value in headers])
    if size > limits.head_bytes or len(headers) > limits.headers:
        return errors.head_too_large(limits.head_bytes)
    if len(fields) != len(headers) and (twice := _repeated(headers)) is not None:
        return errors.repeated_header(twice.decode("latin-1"))
    if b"transfer-encoding" in fields and any(
        n == b"transfer-encoding" and v.lower() != b"chunked" for n, v in headers
    ):
        return errors.not_http()
    coding = fields.get(b"content-encoding", b"identity")
    return None if coding.lower() == b"identity" else errors.compressed(coding.decode("latin-1"))


def without_upgrade(parser: _Parser, url: bytes, headers: _Headers) -> bytes:
    """The head that was just parsed, as one that asks for no other protocol."""
    lines = [b"%b %b HTTP/%b" % (parser.get_method(), url, parser.get_http_version().encode())]
    lines += [b"%b: %b" % (name, _less_upgrade(name, value)) for name, value in headers if name != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def _repeated(headers: _Headers) -> bytes | None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE:
            return name
        seen.add(name)
    return None


def _less_upgrade(name: bytes, value: bytes) -> bytes:
    if name != b"connection":
        return value
    return b", ".join(token for word in value.split(b",") if (token := word.strip()).lower() != b"upgrade")
