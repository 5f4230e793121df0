"""Which headers cross the gateway, in either direction; pure.

To the engine go only those named here: never the client's key, cookies, Origin or Host. From the engine comes all but
what belongs to its connection, and what is for the gateway alone to say.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

# RFC 9110, 7.6.1: headers of one connection; the rest of the list is set anew by each hop.
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_GATEWAYS_OWN: Final = frozenset(
    (b"content-length", b"date", b"server", b"set-cookie", b"x-request-id", b"proxy-authenticate", b"www-authenticate")
)
_DROPPED: Final = _HOP_BY_HOP | _GATEWAYS_OWN
_CORS: Final = b"access-control-"
_TO_ENGINE: Final = (b"traceparent", b"tracestate", b"user-agent")
_WHOLE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\x00-\x08\x0a-\x1f\x7f]*")


@lru_cache(maxsize=1024)
def opening(path: str, authority: str, own: tuple[tuple[str, str], ...], *, keep_alive: bool) -> bytes:
    """The part of a request's head that is the same for all requests to an engine's path.

    `own` are the headers that this engine wants; ValueError when they would be more than headers.
    """
    lines = {
        "host": authority,
        "accept": "*/*",
        "accept-encoding": "identity",  # compressing a stream on loopback only delays its chunks
        "content-type": "application/json",  # the body was read as JSON, whatever the client called it
    }
    if not keep_alive:
        lines["connection"] = "close"
    lines.update((name.lower(), value) for name, value in own)
    for name, value in lines.items():
        if not _WHOLE.fullmatch(f"{name}: {value}"):
            raise ValueError(f"{name!r} is no header that can be sent")
    return "".join([f"POST {path} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items())]).encode(
        "latin-1"
    )


def rest_of_head(headers: Mapping[bytes, bytes], request_id: str, length: int) -> bytes:
    """The rest of it: `headers` are the client's by lower-case name, `length` is that of the body in bytes."""
    lines = [b"x-request-id: %b\r\ncontent-length: %d\r\n" % (request_id.encode(), length)]
    lines += [b"%b: %b\r\n" % (name, headers[name]) for name in _TO_ENGINE if name in headers]
    lines.append(b"\r\n")
    return b"".join(lines)


def to_client(pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the engine's answer that the client may see; names in lower case, here and there."""
    kept: list[tuple[bytes, bytes]] = []
    named: set[bytes] = set()  # a Connection header can name further ones that are of this connection only
    for name, value in pairs:
        if name == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
        elif name not in _DROPPED and not name.startswith(_CORS):
            kept.append((name, value))
    return [pair for pair in kept if pair[0] not in named] if named else kept
