"""One client's HTTP/1.1 connection: bytes to requests by httptools' parser, one answer at a time; knows no route.

Decisions that are easy to get wrong:

- A wish for another protocol is ignored, as RFC 9110 (7.8) has it. The parser stops there and would drop the request's
  own body, so the request is read again without that header.
- The fields of a trailer are dropped, as RFC 9110 (6.5.1) advises: as headers they could say who asks.
- What could be read in two ways is refused, and so is all that follows it on the connection.
- Nothing is written into the middle of an answer. A client that breaks HTTP meanwhile is cut off.
"""

import asyncio
from collections import deque
from math import inf
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools

from corral.gateway import errors
from corral.gateway.errors import ApiError
from corral.gateway.wire.cycle import Cycle
from corral.gateway.wire.heads import fault, without_upgrade
from corral.gateway.wire.hub import Hub
from corral.units import KIB, MIB

_VERSIONS: Final = ("1.1", "1.0")
_QUEUED: Final = 16  # requests that wait behind another one of the same connection
_FRAMING: Final = 16  # bytes beside one of a body: chunks of one byte each need 6
_FRAMING_LIMIT: Final = 1024 * KIB  # beyond that: chunk extensions and trailers without end; a few reads of the socket
_UNREAD: Final = 8 * MIB  # of a body that is thrown away for the sake of the connection
_LINGER_SECONDS: Final = 1.0  # for a client to read its refusal while it still sends


class _Refused(Exception):
    """Carries an ApiError out through the parser."""


class Line(asyncio.Protocol):
    """A connection. Further requests that come before an answer is complete wait for it, and reading with them."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._parser = _parser(self)
        self._current: Cycle | None = None  # whose answer is not complete
        self._parsed: Cycle | None = None  # whose body is not complete
        self._queue: deque[Cycle] = deque()
        self._deaf = False  # nothing more is read
        self._last = False  # the request that was read last is to be the last
        self._reading = True
        self._writable: asyncio.Future[None] | None = None
        self._heading = False  # within a request's head
        self._begun = 0  # requests that began in what was read last
        self._bytes = 0  # of this request: its head, framing and trailer; less what they may be beside so much body
        self._unread = 0  # bytes of a body that came after its answer
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.until = hub.loop.time() + hub.limits.head_seconds  # when it is too late for what is waited for
        self.behind = inf  # when it is too late for the client to catch up with reading
        self._quiet = False  # it is no request that is waited for, and its lateness is no fault

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take its place among the others, if there is one."""
        self.transport = cast("asyncio.Transport", transport)
        self._client = transport.get_extra_info("peername") or None
        self._scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self._hub.joined(self)
        if self._hub.makes_room():
            self._hub.silent[self] = None
        else:
            self._refuse(errors.too_many_connections())

    def data_received(self, data: bytes) -> None:
        """Give it to the parser."""
        if self._deaf:
            return
        if self._parsed is not None:
            self._wait(self._hub.limits.body_seconds)
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            if self._last and self._parsed is None:  # behind the last request may come what will
                self._deaf = True
                return
            cause = error.__context__
            self._refuse(cast("ApiError", cause.args[0]) if isinstance(cause, _Refused) else errors.not_http())

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
        self.behind = self._hub.loop.time() + self._hub.limits.read_seconds

    def resume_writing(self) -> None:
        """It has read, or will not any more."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        self.behind = inf

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin with nothing."""
        self._begun += 1
        self._unread = 0
        self._heading = True
        self._bytes = 0
        self._url = b""
        self._headers = []
        if self._current is None:
            self._wait(self._hub.limits.head_seconds)

    def on_url(self, url: bytes) -> None:
        """Add to the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, in lower case as ASGI has it; not a field of a trailer."""
        if self._heading:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Begin to answer, or line up behind an answer that is under way."""
        self._heading = False
        self._hub.silent.pop(self, None)
        self._hub.resting.pop(self, None)
        if self._last:
            return
        version = self._parser.get_http_version()
        if len(self._queue) >= _QUEUED or version not in _VERSIONS:
            raise _Refused(errors.not_http())
        fields = dict(self._headers)
        if (refusal := fault(self._url, self._headers, fields, self._hub.limits)) is not None:
            raise _Refused(refusal)
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                raise _Refused(errors.not_http())
            return
        keep = version == "1.1" and self._parser.should_keep_alive()
        self._last = not keep
        expects = fields.get(b"expect", b"").lower() == b"100-continue"
        cycle = self._parsed = Cycle(self, self._scope(version, fields), keep=keep, expects=expects)
        self._wait(self._hub.limits.body_seconds)
        if self._current is None:
            self._answer(cycle)
        else:
            self._queue.append(cycle)
            self.hold(reading=False)

    def on_body(self, body: bytes) -> None:
        """Pass it to whoever answers."""
        self._bytes -= len(body) * _FRAMING
        if self._parsed is None:
            return
        self._parsed.fed(body)
        if self._parsed.finished:  # it was answered without being read: a little may follow, but not all of it
            self._unread += len(body)
            if self._unread > _UNREAD:
                self._close(linger=False)

    def on_message_complete(self) -> None:
        """From here on the client may take its time."""
        if self._parsed is None or self._parser.should_upgrade():
            return
        self._parsed.end()
        self._parsed = None
        if self._current is None:
            self._wait(self._hub.limits.idle_seconds, quiet=True)
        else:
            self.until = inf

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
            if reading and self._parsed is not None:
                self._wait(self._hub.limits.body_seconds)
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def answered(self, *, keep: bool) -> None:
        """An answer is complete: go on with the next request, wait for one, or end."""
        self._current = None
        if self._queue:
            self._answer(self._queue.popleft())
            self.hold(reading=True)
        elif not keep or self._hub.leaving:
            self._close(linger=self._parsed is not None)
        else:
            self.hold(reading=True)
            if self._heading:
                self._wait(self._hub.limits.head_seconds)
            elif self._parsed is None:
                self._wait(self._hub.limits.idle_seconds, quiet=True)
            if self._parsed is None:
                self._hub.resting[self] = None

    # What the hub calls

    def be_late(self, *, behind: bool = False) -> None:
        """What was waited for did not come in time; `behind`: the client did not read what was sent long ago."""
        if behind:
            self.behind = inf
            self.transport.abort()  # to close it would be to wait for its reading
            return
        self.until = inf
        if self._quiet or self._deaf or (self._parsed is not None and self._parsed.finished):
            self.transport.close()
        elif self._reading:  # else it is this side that keeps the client waiting
            self._refuse(errors.too_slow())

    def leave(self) -> None:
        """Wait for no further request."""
        if self._current is None:
            self.transport.close()

    # Inside

    def _feed(self, data: bytes) -> bytes:
        """Parse; what must be parsed once more is given back."""
        within = self._heading or self._parsed is not None
        self._begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            again = without_upgrade(self._parser, self._url, self._headers)
            self._parser = _parser(self)
            return again + data[stopped.args[0] :]
        if self._begun + within == 1:  # else it is not known which bytes are of the last request
            self._bytes += len(data)
        limits = self._hub.limits
        if self._bytes > (limits.head_bytes if self._heading else _FRAMING_LIMIT) and (self._heading or self._parsed):
            self._refuse(errors.head_too_large(limits.head_bytes))
        return b""

    def _scope(self, version: str, fields: dict[bytes, bytes]) -> dict[str, Any]:
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii") if url.path else ""
        return {
            "type": "http",
            "http_version": version,
            "method": self._parser.get_method().decode(),
            "scheme": self._scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._headers,
            "corral.fields": fields,
            "client": self._client,
        }

    def _answer(self, cycle: Cycle) -> None:
        self._current = cycle
        cycle.task = self._hub.loop.create_task(self._run(cycle))
        self._hub.tasks.add(cycle.task)

    async def _run(self, cycle: Cycle) -> None:
        try:
            await self._hub.application(cycle.scope, cycle.receive, cycle.send)
        finally:
            self._hub.tasks.discard(cast("asyncio.Task[None]", cycle.task))
            cycle.task = None
            cycle.scope.clear()  # it refers to the cycle: without this, each request would be left to the collector
            if not cycle.finished and not cycle.gone:  # cut short, as its client is to see
                self.transport.close()

    def _wait(self, seconds: float, *, quiet: bool = False) -> None:
        self.until = self._hub.loop.time() + seconds
        self._quiet = quiet

    def _leave(self) -> None:
        for cycle in (*self._queue, self._parsed, self._current):
            if cycle is not None:
                cycle.leave()
        self._queue.clear()

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, unless another answer is on its way, and end the connection."""
        self._deaf = True
        current = self._current
        said = current is None or (current is self._parsed and not current.started)
        self._leave()
        if said:
            body = error.body()
            head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n"
            headers = b"".join(b"%b: %b\r\n" % pair for pair in error.headers)
            self.write(head % (error.status, (error.code or "").encode(), len(body)) + headers + b"\r\n" + body)
            self._close(linger=True)
        else:
            self.transport.close()

    def _close(self, *, linger: bool) -> None:
        """Close; later, if the client may still send: the kernel would reset the connection, and the answer be lost."""
        self._deaf = True
        if not linger:
            self.transport.close()
        elif not self.transport.is_closing():
            self.hold(reading=True)
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._wait(_LINGER_SECONDS, quiet=True)


def _parser(line: Line) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(line)
    # What follows a request that is to be the last is not looked at, and so is no reason to break off its answer.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser
