"""One request and its answer as ASGI messages, turned into HTTP/1.1 bytes; knows no socket beyond write, no route."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any, Final, Protocol

from corral.units import KIB

_READ_AHEAD: Final = 256 * KIB  # bytes of a body that wait to be fetched before reading pauses
_STATUS: Final = {status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus}
_BODILESS: Final = frozenset((204, 304))


class Wire(Protocol):
    """The connection, as a cycle sees it."""

    def write(self, data: bytes) -> None: ...  # noqa: D102 - as the names say
    def writable(self) -> "asyncio.Future[None] | None": ...  # noqa: D102 - None: it is
    def hold(self, *, reading: bool) -> None: ...  # noqa: D102
    def answered(self, *, keep: bool) -> None: ...  # noqa: D102


class Cycle:
    """An ASGI application's `receive` and `send` for one request."""

    __slots__ = (
        "_announced", "_body", "_chunked", "_finished", "_headless", "_keep", "_left", "_line", "_missing", "_size",
        "_started", "_told", "_unsent", "_waiter", "ended", "expects", "gone", "scope", "task",
    )  # fmt: skip

    def __init__(self, line: Wire, scope: dict[str, Any], *, keep: bool, expects: bool) -> None:
        self.scope = scope
        scope["corral.when_left"] = self.when_left
        scope["corral.write"] = self.write
        self.task: asyncio.Task[None] | None = None  # that answers it
        self.expects = expects  # the client waits for a 100 before it sends its body
        self.ended = False  # the request's body is complete
        self.gone = False  # the client is
        self._line = line
        self._body: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._left: Callable[[], object] | None = None
        self._started = self._finished = self._chunked = False
        self._headless = scope["method"] == "HEAD"
        self._unsent = b""  # the answer's head
        self._keep = keep
        self._told = False  # that the request's body is complete
        self._missing = 0  # bytes of the answer's declared length

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self._finished

    @property
    def started(self) -> bool:
        """Whether a byte of the answer was sent."""
        return self._started

    def when_left(self, call: Callable[[], object] | None) -> None:
        """Have `call` called in the moment in which the client goes, if that is before its answer is complete."""
        self._left = call
        if self.gone and call is not None:
            call()

    # What the connection says

    def fed(self, part: bytes) -> None:
        """A part of the body came."""
        if self._finished:
            return
        self._body.append(part)
        self._size += len(part)
        if self._size > _READ_AHEAD:
            self._line.hold(reading=False)
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.ended = True
        self._wake()

    def leave(self) -> None:
        """The client is gone."""
        if self.gone:
            return
        self.gone = True
        self._wake()
        if self._left is not None and not self._finished:
            self._left()

    # What the application calls

    async def receive(self) -> dict[str, Any]:
        """The next part of the body, or that the client is gone."""
        if self.expects and not self._started:
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects = False
        while not (self._body or self.gone or self._finished or (self.ended and not self._told)):
            await self._wait()
        if self.gone or self._finished:
            return {"type": "http.disconnect"}
        self._told = self.ended
        parts, self._body, self._size = self._body, deque[bytes](), 0
        self._line.hold(reading=True)
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return {"type": "http.request", "body": body, "more_body": not self.ended}

    async def send(self, message: dict[str, Any]) -> None:
        """Send the status and headers, or a part of the body; waits while the client does not read."""
        if self.gone:
            return
        if message["type"] == "http.response.start":
            self._unsent = self._head(message["status"], message.get("headers", ()))  # goes out with what follows
            return
        part = message.get("body", b"")
        if message.get("more_body", False):
            if (writable := self.write(part)) is not None:
                await writable
        else:
            self._put(self._framed(part, last=True))
            self._finished = True
            self._wake()
            self._line.answered(keep=self._keep and self._missing == 0)

    def write(self, part: bytes) -> asyncio.Future[None] | None:
        """Send a part of the body that is not the last; what to wait for before the next one, if anything."""
        if self.gone:
            return None
        self._put(self._framed(part, last=False))
        return self._line.writable()

    # Inside

    def _head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        self._started = True
        lines = [b"HTTP/1.1 %b\r\ndate: %b\r\n" % (_STATUS.get(status) or b"%d " % status, _date(int(time())))]
        declared = None
        for name, value in headers:
            if name.lower() == b"content-length":
                declared = int(value)
                if status in _BODILESS:
                    continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if self._headless or status in _BODILESS:
            self._headless = True
        elif declared is not None:
            self._missing = declared
        elif self.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._keep = False  # the end of the connection is the end of the body
        if not self._keep:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) + 1:
            raise ValueError("a header with a line's end in it")
        return head + b"\r\n"

    def _framed(self, part: bytes, *, last: bool) -> bytes:
        if self._headless:
            return b""
        if self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(part), part) if part else b""
            return framed + b"0\r\n\r\n" if last else framed
        self._missing -= len(part) if self._missing else 0
        return part

    def _put(self, framed: bytes) -> None:
        if self._unsent:
            framed, self._unsent = self._unsent + framed, b""
        if framed:
            self._line.write(framed)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
