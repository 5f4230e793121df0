"""An engine's HTTP server whose every byte is scripted; it reads requests honestly and answers as it is told."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Call:
    """One request that arrived, and the means to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set when the peer closes

    async def raw(self, data: bytes) -> None:
        if self.writer.transport.is_closing():  # uvloop raises RuntimeError for a write after that
            raise ConnectionResetError
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} X", *headers, "", ""]
        await self.raw("\r\n".join(lines).encode())

    async def whole(self, status: int, body: bytes, *headers: str) -> None:
        await self.head(status, *(headers or ("Content-Type: application/json",)), f"Content-Length: {len(body)}")
        await self.raw(body)

    async def json(self, status: int, value: object) -> None:
        await self.whole(status, json.dumps(value).encode())

    async def stream(self, *headers: str) -> None:
        await self.head(200, "Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked", *headers)

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def die(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Call], Awaitable[None]]


async def echo(call: Call) -> None:
    await call.json(200, {"path": call.path, "headers": call.headers, "body": json.loads(call.body)})


async def never_answers(call):
    await call.gone.wait()


async def streams_for_ever(call):
    await call.stream()
    while not call.gone.is_set():
        await call.chunk(b"data: {}\n\n")
        await asyncio.sleep(0.001)


async def stalls_in_the_stream(call):
    await call.stream()
    await call.chunk(b"data: {}\n\n")
    await call.gone.wait()


async def answers_a_refusal_slowly(call):
    await call.head(500, "Content-Type: application/json", "Content-Length: 100")
    await call.gone.wait()


class FakeEngine:
    def __init__(self) -> None:
        self.script: Script = echo
        self.calls: list[Call] = []
        self.connections = 0  # open ones
        self.accepted = 0
        self._tasks: set[asyncio.Task] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        self.accepted += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._one(reader, writer):
                pass
        self.connections -= 1
        writer.transport.abort()
        self._tasks.discard(asyncio.current_task())

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        call = Call(method, path, headers, body, writer)
        self.calls.append(call)
        script = asyncio.ensure_future(self.script(call))
        # Whatever the peer sends now is either its end or the next request.
        watch = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({script, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and (watch.exception() or not watch.result()):
                call.gone.set()
            await script
            if writer.transport.is_closing() or not (first := await watch):
                return False
            reader._buffer[:0] = first  # unread it
            return True
        finally:
            call.gone.set()
            script.cancel()
            watch.cancel()
