"""Which headers cross the gateway, in either direction; pure.

To the engine go only those named here: never the client's key, cookies, Origin or Host. From the engine comes all but
what belongs to its connection, and what is for the gateway alone to say.
"""

from collections.abc import Iterable, Mapping
from typing import Final

# RFC 9110, 7.6.1: headers of one connection; the rest of the list is set anew by each hop.
_HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_GATEWAYS_OWN: Final = frozenset(
    (b"content-length", b"date", b"server", b"set-cookie", b"x-request-id", b"proxy-authenticate", b"www-authenticate")
)
_CORS: Final = b"access-control-"
_TO_ENGINE: Final = ((b"traceparent", "traceparent"), (b"tracestate", "tracestate"), (b"user-agent", "user-agent"))


def to_engine(
    headers: Mapping[bytes, bytes], request_id: str, own: Iterable[tuple[str, str]], length: int
) -> dict[str, str]:
    """The headers of the request to the engine; `headers` are the client's by lower-case name, `length` in bytes."""
    chosen = {
        "content-type": "application/json",  # the body was read as JSON, whatever the client called it
        "content-length": str(length),
        "accept-encoding": "identity",  # compressing a stream on loopback only delays its chunks
        "x-request-id": request_id,
    }
    for name, forwarded in _TO_ENGINE:
        if (value := headers.get(name)) is not None:
            chosen[forwarded] = value.decode("latin-1")
    chosen.update(own)
    return chosen


def to_client(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of the engine's answer that the client may see, names in lower case."""
    pairs = [(name.lower(), value) for name, value in headers]
    # A Connection header can name further ones that are of this connection only.
    named = {token.strip().lower() for name, value in pairs if name == b"connection" for token in value.split(b",")}
    dropped = _HOP_BY_HOP | _GATEWAYS_OWN | named
    return [(name, value) for name, value in pairs if name not in dropped and not name.startswith(_CORS)]
