"""An engine that answers at once and so hides nothing; what it does is written into the prompt. Knows no gateway.

    [answer N]      1 KB of JSON, N requests or not; also without any such mark
    [stream N S]    N chunks, one every S seconds, each with its number and the time at which it was sent
    [hang ID]       no answer ever; when the connection ends, the time is kept under ID
    [drip ID]       a chunk every 20 ms for ever; as above
    [status N]      an error of that status
    [die] [cut]     the connection ends before the answer, or within a stream

`GET /seen` answers the kept times by id, and forgets them; `GET /open` how many connections are open.
"""

import asyncio
import json
import re
import time
from typing import Final, cast

_CONTENT: Final = "word " * 190
REPLY: Final = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _CONTENT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 180, "completion_tokens": 190, "total_tokens": 370},
    }
).encode()
_ABOUT: Final = '"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"'
_CHUNK: Final = (
    f'data: {{{_ABOUT}, "choices": [{{"index": 0, "delta": {{"content": "%d:%d "}}, "finish_reason": null}}]}}\n\n'
)
_USAGE: Final = (
    f'data: {{{_ABOUT}, "choices": [], '
    '"usage": {"prompt_tokens": 180, "completion_tokens": 9, "total_tokens": 189}}\n\n'
).encode()
_LAST: Final = b"data: [DONE]\n\n"
_END: Final = b"0\r\n\r\n"
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_MARK: Final = re.compile(rb"\[(\w+)(?: ([\w.]+))?(?: ([\d.]+))?\]")
_JSON: Final = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_STREAM: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_DRIP_SECONDS: Final = 0.02
_ENDLESS: Final = 1_000_000_000

seen: dict[str, int] = {}
opened: set["Engine"] = set()


class Engine(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""
        self.waiting = ""  # the id of a request that is never answered
        opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note when that happened."""
        del exc
        opened.discard(self)
        if self.waiting:
            seen[self.waiting] = time.monotonic_ns()

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self.buffer = b""
        if head.startswith(b"GET /seen"):
            self.json(200, json.dumps(seen).encode())
            seen.clear()
        elif head.startswith(b"GET /open"):
            self.json(200, b"%d" % len(opened))
        else:
            self.answer(body)

    def answer(self, body: bytes) -> None:
        """Do what the prompt says."""
        mark = _MARK.search(body)
        match mark[1] if mark else b"answer":
            case b"stream":
                self.transport.write(_STREAM)
                self.usage = b'"include_usage"' in body
                self.chunk(0, int(mark[2]), float(mark[3]))
            case b"hang":
                self.waiting = mark[2].decode()
            case b"drip":
                self.waiting = mark[2].decode()
                self.transport.write(_STREAM)
                self.usage = False
                self.chunk(0, _ENDLESS, _DRIP_SECONDS)
            case b"status":
                self.json(int(mark[2]), b'{"error": {"message": "as asked", "type": "server_error"}}')
            case b"die":
                self.transport.abort()
            case b"cut":
                self.transport.write(_STREAM + _framed((_CHUNK % (time.monotonic_ns(), 0)).encode()))
                self.transport.close()
            case _:
                self.json(200, REPLY)

    def json(self, status: int, body: bytes) -> None:
        """Answer at once."""
        self.transport.write(_JSON % (status, len(body), body))

    def chunk(self, number: int, count: int, interval: float) -> None:
        """Send a chunk, and the next one later."""
        if self.transport.is_closing():
            return
        if number == count:
            last = _USAGE + _LAST if self.usage else _LAST
            self.transport.write(_framed(last) + _END)
            return
        self.transport.write(_framed((_CHUNK % (time.monotonic_ns(), number)).encode()))
        asyncio.get_running_loop().call_later(interval, self.chunk, number + 1, count, interval)


def _framed(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part)


class Bare(asyncio.Protocol):
    """What Python and this machine cost at least: answers each request itself, without looking at it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        if not self.missing:
            head, _, _ = data.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            self.missing = len(head) + 4 + (int(length[1]) if length else 0)
        self.missing -= len(data)
        if self.missing <= 0:
            self.missing = 0
            self.transport.write(_JSON % (200, len(REPLY), REPLY))


async def serve(protocol: type[asyncio.Protocol]) -> None:
    """Print the port and serve until ended."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
