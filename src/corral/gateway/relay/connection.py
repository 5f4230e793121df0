"""One HTTP/1.1 connection to an engine, as a state machine around httptools' parser; knows no route and no client.

Back-pressure in both directions: a body is written in pieces as the engine reads, so that a request that is given up is
not flushed whole; and reading pauses while what came is not fetched.
"""

import asyncio
import select
from typing import Final, cast

import httptools

from corral.units import KIB

_WRITTEN_AT_ONCE: Final = 256 * KIB
_PIECE: Final = 64 * KIB
_READ_AHEAD: Final = 256 * KIB  # bytes that wait to be fetched before reading pauses
_EVENT_STREAM: Final = b"text/event-stream"
_HEAD: Final = 64 * KIB  # of an answer's status and headers


class Broken(Exception):
    """The connection ended, broke HTTP or fell silent before the answer was complete."""


class Connection(asyncio.Protocol):
    """Used for one request at a time: `begin`, `head`, then `read` until it gives nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._awaited: asyncio.Future[None] | None = None
        self._why: Exception | None = None  # why nothing more will come
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._reset()
        self.complete = True  # nothing was asked yet

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self.length: bytes | None = None  # the content-length, as it came
        self.streams = False  # the answer is a stream of events
        self.complete = False  # the answer came to its end
        self._headed = False
        self._unasked = False
        self._kept = False
        self._head_size = 0
        self._delimited = False  # whether the answer says itself where it ends
        self._chunks: list[bytes] = []
        self._size = 0
        self._reads = True
        self._paused = False
        self._pending = memoryview(b"")  # of the request's body: what was not written yet

    # What the user of a connection calls

    def begin(self, head: bytes, body: bytes) -> None:
        """Send a request."""
        self._reset()
        if len(body) <= _WRITTEN_AT_ONCE:
            self.transport.write(head + body)
            return
        self._pending = memoryview(body)
        self.transport.write(head)
        self._write_more()

    async def head(self) -> None:
        """Wait for the status and the headers; Broken when none will come."""
        while not self._headed:
            await self._news()

    async def read(self) -> bytes:
        """What has come of the body, or nothing at its end; Broken when the rest will not come."""
        while not self._chunks:
            if self.complete:
                return b""
            await self._news()
        chunks, self._chunks, self._size = self._chunks, [], 0
        if not self._reads:
            self._reads = True
            self.transport.resume_reading()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def end_after_silence(self, seconds: float) -> None:
        """From now to the end of this answer: take the connection for broken when nothing is heard for so long."""
        if self.complete or self._why is not None:
            return
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._listen, seconds)

    def reusable(self) -> bool:
        """Whether the last answer was read to its end and the engine keeps the connection."""
        return self.complete and self._kept and self._why is None and not self._pending

    def is_fresh(self, *, look: bool) -> bool:
        """Whether an idle connection is open; `look` for its end also where the event loop has not seen it yet."""
        return self._why is None and not (look and self._idle_poll.poll(0))

    def close(self) -> None:
        """End it now, whatever is under way: that is how an engine learns that nobody waits any more."""
        self._stop_timer()
        if self._why is None:
            self._why = Broken("closed here")
            self.transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self._idle_poll = select.poll()
        self._idle_poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Give it to the parser."""
        if self.complete:  # nobody asked
            self._end(Broken("the engine said something unasked"))
            return
        if self._timer is not None:
            self._heard = self._loop.time()
        if not self._headed:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(Broken(str(error)))
            return
        except httptools.HttpParserUpgrade:
            self._end(Broken("the engine changed the protocol"))
            return
        if self._unasked:
            self._end(Broken("the engine said something unasked"))
        elif not self._headed and self._head_size > _HEAD:
            self._end(Broken("endless headers"))
        elif self._size > _READ_AHEAD and self._reads:
            self._reads = False
            self.transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        """The engine sends no more."""
        if self._headed and not self._delimited:
            self.complete = True
        self._end(Broken("the engine ended the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Nor can anything be sent."""
        self._end(exc or Broken("the connection is closed"))

    def pause_writing(self) -> None:
        """The engine reads more slowly than is written."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has read."""
        self._paused = False
        self._write_more()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Note an answer behind the answer."""
        self._unasked = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; not a field of a trailer."""
        if self._headed:
            return
        name = name.lower()
        if name == b"content-length":
            self.length = value
            self._delimited = True
        elif name == b"transfer-encoding":
            self._delimited = True
        elif name == b"content-type":
            self.streams = value[: len(_EVENT_STREAM)].lower() == _EVENT_STREAM
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._unasked:
            self.status = status
            self._headed = True
            self._kept = self._parser.should_keep_alive()  # the parser knows no longer once the message is complete

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body."""
        if self._unasked:
            return
        self._chunks.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        """Note the end; after an interim answer the true one is still to come."""
        if self._headed:
            self.complete = True
            self._stop_timer()
        else:
            self.headers.clear()
            self._delimited = False

    # Inside

    def _news(self) -> asyncio.Future[None]:
        """To be awaited: done when something changes; what makes it certain that nothing will is raised at once."""
        if self._why is not None:
            raise Broken(str(self._why))
        self._awaited = self._loop.create_future()
        return self._awaited

    def _tell(self) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def _end(self, why: Exception) -> None:
        if self._why is None:
            self._why = why
            self.transport.abort()
        self._stop_timer()
        self._tell()

    def _write_more(self) -> None:
        while self._pending and not self._paused and self._why is None:
            self.transport.write(bytes(self._pending[:_PIECE]))
            self._pending = self._pending[_PIECE:]

    def _listen(self, seconds: float) -> None:
        """Reading that is paused is the client's silence, and not the engine's."""
        if not self._reads:
            self._heard = self._loop.time()
        left = self._heard + seconds - self._loop.time()
        if left <= 0:
            self._end(Broken(f"silent for {seconds:g} s"))
        else:
            self._timer = self._loop.call_later(left, self._listen, seconds)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
