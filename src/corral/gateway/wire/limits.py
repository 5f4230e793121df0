"""What a client may take: connections, header bytes, and seconds for each part of a request."""

import msgspec

from corral.units import KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server. Seconds are kept to within one."""

    connections: int = 4096
    headers: int = 128
    head_bytes: int = 64 * KIB  # of the request line and all headers
    head_seconds: float = 10.0  # from a connection's first moment, or a later request's first byte, to its last header
    body_seconds: float = 30.0  # of silence within a body
    # Longer than the pools of common clients keep a connection (httpx 5 s, aiohttp 15 s, nginx 60 s), so that it is not
    # this side that closes one in the moment in which it is used again.
    idle_seconds: float = 75.0
    # For a client that fell behind to read most of the 64 KiB that wait for it. Who reads a byte now and then keeps the
    # connection alive for the kernel, and would hold a place in an engine for as long as it likes.
    read_seconds: float = 120.0
