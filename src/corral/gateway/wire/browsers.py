"""Whether a browser's request comes from where it should; pure.

A server on loopback without keys is open to every web page its user visits, in two ways. A page can post to
http://127.0.0.1 from elsewhere: its Origin header gives it away. And a page can have its own name resolve to 127.0.0.1
(DNS rebinding) and so become "same origin": its Host header gives it away, because a name can be rebound and an address
cannot. Programs that are no browsers send no Origin, and a Host that is an address or a name that the user chose.
"""

import ipaddress
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

_LONGEST: Final = 300  # bytes; a DNS name has at most 253


def host_allowed(host: bytes, names: frozenset[str]) -> bool:
    """Whether a Host header is an address, a loopback name, or one of `names` (lower case); no Host is no browser."""
    return len(host) <= _LONGEST and (not host or _host_allowed(host, names))


def origin_allowed(origin: bytes, host: bytes, names: frozenset[str]) -> bool:
    """Whether an Origin header is this server itself (`host`), a loopback address or name, or one of `names`."""
    return len(origin) <= _LONGEST and _origin_allowed(origin, host[:_LONGEST], names)


def preflight(origin: bytes, requested_headers: bytes, methods: bytes = b"GET, POST") -> list[tuple[bytes, bytes]]:
    """What a browser wants to read before an allowed page may post JSON here."""
    return [
        *cors(origin),
        (b"access-control-allow-methods", methods),
        (b"access-control-allow-headers", requested_headers or b"authorization, content-type"),
        (b"access-control-max-age", b"600"),
    ]


def cors(origin: bytes) -> list[tuple[bytes, bytes]]:
    """What a browser wants to read before an allowed page may see the answer."""
    exposed = (b"access-control-expose-headers", b"x-request-id, retry-after")
    return [(b"access-control-allow-origin", origin), (b"vary", b"origin"), exposed]


@lru_cache(maxsize=256)
def _host_allowed(host: bytes, names: frozenset[str]) -> bool:
    name = _hostname(b"//" + host)
    return name is not None and (_is_loopback_name(name) or name in names or _address(name) is not None)


@lru_cache(maxsize=256)
def _origin_allowed(origin: bytes, host: bytes, names: frozenset[str]) -> bool:
    scheme, _, place = origin.lower().partition(b"://")
    if scheme not in {b"http", b"https"}:
        return False
    name = _hostname(b"//" + place)
    if name is None:
        return False
    address = _address(name)
    loopback = _is_loopback_name(name) or (address is not None and address.is_loopback)
    return loopback or name in names or place == host.lower()


def _hostname(url: bytes) -> str | None:
    try:
        name = urlsplit(url.decode("ascii")).hostname
    except ValueError:  # no ASCII, or brackets that hold no address
        return None
    return name.rstrip(".") if name else None


def _is_loopback_name(name: str) -> bool:
    return name == "localhost" or name.endswith(".localhost")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
