"""Load on one port, and what came of it; knows neither gateway nor rivals.

Requests of the delay test are sent on a schedule and timed from the moment they were due, so that a stall is not hidden
by waiting for it.
"""

import asyncio
import json
import re
import sys
import time
from typing import Final, cast

PROMPT: Final = "word " * 180
DONE: Final = b"0\r\n\r\n"
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
STAMP: Final = re.compile(rb'"content": ?"(\d+):(\d+) "')


class Client(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    def __init__(self) -> None:
        self.delays: list[float] = []  # of each chunk, seconds from being sent to being received
        self.numbers: list[int] = []  # of the chunks, as they came
        self.status = 0  # of the last answer; 0: none
        self.complete = True  # whether the last answer came to its end
        self.answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that did not come will not come any more."""
        del exc
        self.complete = False
        self._over()

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; done when its answer is whole, or the connection ended."""
        self.buffer = b""
        self.missing = -1  # bytes of the body; -1: not known yet
        self.status = 0
        self.complete = False
        self.began = asyncio.get_running_loop().create_future()  # done with the first byte of the answer's body
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answered

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer, and at the stamps of its chunks."""
        now = time.monotonic_ns()
        self.buffer += data
        if self.missing < 0:
            head, end, body = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self.status = int(head[9:12])
            length = LENGTH.search(head)
            self.missing = int(length[1]) if length else sys.maxsize
            self.buffer = body
        if not self.began.done() and self.buffer:
            self.began.set_result(None)
        stamps = list(STAMP.finditer(self.buffer)) if self.missing == sys.maxsize else []
        if stamps:
            self.delays += [(now - int(stamp[1])) / 1e9 for stamp in stamps]
            self.numbers += [int(stamp[2]) for stamp in stamps]
            self.buffer = self.buffer[stamps[-1].end() :]
        if len(self.buffer) >= self.missing or (self.missing == sys.maxsize and self.buffer.endswith(DONE)):
            self.complete = True
            self._over()

    def _over(self) -> None:
        for future in (self.answered, getattr(self, "began", None)):
            if future is not None and not future.done():
                future.set_result(None)

    def require(self, status: int) -> None:
        """End the benchmark when the last answer was another one: its figures would mean nothing."""
        if self.status != status or not self.complete:
            raise SystemExit(f"status {self.status}, complete: {self.complete}: {self.buffer[:2000].decode()}")


def request(port: int, mark: str = "", **fields: object) -> bytes:
    """A chat request of about 1 KB; `mark` says what the engine does (see engine.py)."""
    message = {"role": "user", "content": f"{mark} {PROMPT}"}
    body = json.dumps({"model": "m", "messages": [message]} | fields).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def connect(port: int, count: int) -> list[Client]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(count)]


async def at_rate(port: int, seconds: float, rate: float) -> list[float]:
    """Ask `rate` times a second whatever the answers do; seconds from when each was due to its answer."""
    idle = await connect(port, 16)
    text = request(port)
    delays: list[float] = []

    async def one(due: float) -> None:
        client = idle.pop() if idle else (await connect(port, 1))[0]
        await client.ask(text)
        delays.append(time.monotonic() - due)
        client.require(200)
        idle.append(client)

    await asyncio.gather(*(client.ask(text) for client in idle))  # warm
    began = time.monotonic() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for number in range(round(seconds * rate)):
            due = began + number / rate
            await asyncio.sleep(due - time.monotonic())
            tasks.create_task(one(due))
    close(idle)
    return delays


async def flat_out(port: int, seconds: float, concurrency: int) -> tuple[int, float]:
    """Requests answered with so many always under way, and the seconds that they took."""
    clients = await connect(port, concurrency)
    text = request(port)
    await asyncio.gather(*(client.ask(text) for client in clients))  # warm
    began = time.monotonic()
    end = began + seconds
    done = 0

    async def one(client: Client) -> None:
        nonlocal done
        while time.monotonic() < end:
            await client.ask(text)
            client.require(200)
            done += 1

    await asyncio.gather(*map(one, clients))
    taken = time.monotonic() - began
    close(clients)
    return done, taken


async def streams(port: int, count: int, chunks: int, interval: float) -> list[Client]:
    """So many streams at once; the clients, closed, with the number and the delay of each chunk that they got."""
    clients = await connect(port, count)
    text = request(port, f"[stream {chunks} {interval}]", stream=True)
    await asyncio.gather(*(client.ask(text) for client in clients))
    for client in clients:
        client.require(200)
    close(clients)
    return clients


def close(clients: list[Client]) -> None:
    """Close connections."""
    for client in clients:
        client.transport.close()
