"""One client's HTTP/1.1 connection: bytes to requests by httptools' parser, one answer at a time; knows no route."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools

from corral.gateway import errors
from corral.gateway.wire.cycle import Cycle
from corral.gateway.wire.limits import Limits

Application = Callable[[Any, Any, Any], Awaitable[None]]
_SECOND: Final = 1.0


class Hub:
    """What the connections of one server share."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.lines: set[Line] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()  # there is no connection
        self.empty.set()
        self.leaving = False  # no connection waits for a further request
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def joined(self, line: "Line") -> None:
        """A connection is there."""
        self.lines.add(line)
        self.empty.clear()
        if self._timer is None:
            self._timer = self.loop.call_later(_SECOND, self._look)

    def left(self, line: "Line") -> None:
        """A connection is gone."""
        self.lines.discard(line)
        if not self.lines:
            self.empty.set()

    def _look(self) -> None:
        """Once a second, while there are connections: cheaper than timers for each part of each request."""
        self._timer = self.loop.call_later(_SECOND, self._look) if self.lines else None
        now = self.loop.time()
        for line in [line for line in self.lines if line.until < now]:
            line.be_late()


class Line(asyncio.Protocol):
    """A connection. Further requests that come before an answer is complete wait for it, and reading with them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parser = httptools.HttpRequestParser(self)
        self._current: Cycle | None = None  # whose answer is not complete
        self._parsed: Cycle | None = None  # whose body is not complete
        self._queue: deque[Cycle] = deque()
        self._spoilt: errors.ApiError | None = None  # why nothing more is read
        self._reading = True
        self._heading = False  # within a request's head
        self._head_size = 0
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False  # the client waits for a 100 before it sends its body
        self.until = hub.loop.time() + hub.limits.head_seconds  # when it is too late for what is waited for

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take its place among the others, if there is one."""
        self.transport = cast("asyncio.Transport", transport)
        self._client = transport.get_extra_info("peername") or None
        self._encrypted = transport.get_extra_info("sslcontext") is not None
        self._hub.joined(self)
        if len(self._hub.lines) > self._hub.limits.connections:
            self._refuse(errors.too_many_connections())

    def data_received(self, data: bytes) -> None:
        """Give it to the parser."""
        if self._spoilt is not None:
            return
        if self._parsed is not None:
            self.until = self._hub.loop.time() + self._hub.limits.body_seconds
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # answered as if it had not been asked for
        except httptools.HttpParserError as error:
            self._refuse(errors.broken_http(str(error)))
            return
        if self._heading:
            self._head_size += len(data)
        if self._head_size > self._hub.limits.head_bytes:
            self._refuse(errors.head_too_large(self._hub.limits.head_bytes))

    def eof_received(self) -> None:
        """The client sends no more: it is taken to be gone, though the connection may take long to close."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way."""
        del exc
        self._hub.left(self)
        self.until = inf
        self._leave()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""
        self._writable = self._hub.loop.create_future()

    def resume_writing(self) -> None:
        """It has read, or will not any more."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin with nothing."""
        self._heading = True
        if self._current is None:
            self.until = self._hub.loop.time() + self._hub.limits.head_seconds
        self._url = b""
        self._headers = []
        self._head_size = 0
        self._expects = False

    def on_url(self, url: bytes) -> None:
        """Add to the URL."""
        self._url += url
        self._head_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, in lower case as ASGI has it."""
        name = name.lower()
        self._headers.append((name, value))
        self._head_size += len(name) + len(value)
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Begin to answer, or line up behind an answer that is under way."""
        self._heading = False
        if self._head_size > self._hub.limits.head_bytes:
            return  # refused as soon as the parser is done with what came
        self._head_size = 0
        version = self._parser.get_http_version()
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii") if url.path else ""
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": version,
            "method": self._parser.get_method().decode(),
            "scheme": "https" if self._encrypted else "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._headers,
            "client": self._client,
        }
        keep = version == "1.1" and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        cycle = self._parsed = Cycle(self, scope, keep=keep, expects=self._expects)
        self.until = self._hub.loop.time() + self._hub.limits.body_seconds
        if self._current is None:
            self._answer(cycle)
        else:
            self._queue.append(cycle)
            self.hold(reading=False)

    def on_body(self, body: bytes) -> None:
        """Pass it to whoever answers."""
        if self._parsed is not None:
            self._parsed.fed(body)

    def on_message_complete(self) -> None:
        """From here on the client may take its time."""
        if self._parsed is not None:
            self._parsed.end()
        self._parsed = None
        self.until = inf if self._current is not None else self._hub.loop.time() + self._hub.limits.idle_seconds

    # What a cycle calls

    def write(self, data: bytes) -> None:
        """Send, if there is still somebody to send to."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def writable(self) -> asyncio.Future[None] | None:
        """What to wait for before more is sent; None: nothing."""
        return self._writable

    def hold(self, *, reading: bool) -> None:
        """Pause reading, or go on with it unless a further request waits."""
        reading = reading and not self._queue
        if reading != self._reading and not self.transport.is_closing():
            self._reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def answered(self, *, keep: bool) -> None:
        """An answer is complete: go on with the next request, wait for one, or end."""
        self._current = None
        if not keep or (self._hub.leaving and not self._queue):
            self.transport.close()
        elif self._queue:
            self._answer(self._queue.popleft())
            self.hold(reading=True)
        elif self._spoilt is not None:
            self._say(self._spoilt)
        else:
            self.hold(reading=True)
            if self._parsed is None:
                limits = self._hub.limits
                seconds = limits.head_seconds if self._heading else limits.idle_seconds
                self.until = self._hub.loop.time() + seconds

    # What the server calls

    def be_late(self) -> None:
        """What was waited for did not come in time."""
        self.until = inf
        if self._parsed is not None and not self._parsed.finished:
            self._parsed.be_slow()
        elif self._heading:
            self._refuse(errors.slow_head())
        else:
            self.transport.close()

    def leave(self) -> None:
        """Wait for no further request."""
        if self._current is None:
            self.transport.close()

    # Inside

    def _answer(self, cycle: Cycle) -> None:
        self._current = cycle
        task = self._hub.loop.create_task(self._run(cycle))
        self._hub.tasks.add(task)
        task.add_done_callback(self._hub.tasks.discard)

    async def _run(self, cycle: Cycle) -> None:
        try:
            await self._hub.application(cycle.scope, cycle.receive, cycle.send)
        finally:
            cycle.scope.clear()  # it refers to the cycle: without this, each request would be left to the collector
            if not cycle.finished and not cycle.gone:  # cut short, as its client is to see
                self.transport.close()

    def _leave(self) -> None:
        for cycle in (*self._queue, self._parsed, self._current):
            if cycle is not None:
                cycle.leave()
        self._queue.clear()

    def _refuse(self, error: errors.ApiError) -> None:
        """Read no more; say why, once the answers before are complete."""
        self._spoilt = error
        if self._parsed is not None:
            self._parsed.leave()
        if not self.transport.is_closing():
            self.transport.pause_reading()
        if self._current is None or self._current is self._parsed:
            self._say(error)

    def _say(self, error: errors.ApiError) -> None:
        if self._current is None or not self._current.started:
            body = error.body()
            head = f"HTTP/1.1 {error.status} {error.code}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            more = b"".join(b"%b: %b\r\n" % pair for pair in error.headers)
            self.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (head.encode(), more, len(body), body))
        self.transport.close()
