"""A client's connection, stricter than uvicorn's own; knows no route and no engine.

What uvicorn 0.54 on httptools 0.9 leaves open, and what is done about it here:

- After a request that asks for an upgrade, what follows it in the same packet is dropped, and so is its own body. What
  comes in the next packet is then read as a new request, whatever it was meant to be. The upgrade is ignored instead,
  as RFC 9110 (7.8) has it: the request is read again without that header.
- The fields of a trailer are added to the request's headers, where they could say who asks. They are dropped, as
  RFC 9110 (6.5.1) advises.
- A request's head has no bound, neither in size nor in time, and a body may stop in the middle for ever.
- Bytes that are no HTTP are answered with a 400 even in the middle of another request's answer.
- Several Host or Authorization headers: two readers of the request may each believe another one.
- A compressed body would be read as if it were none.
"""

import asyncio
from typing import Final, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from corral.gateway import errors
from corral.gateway.errors import ApiError
from corral.units import KIB

HEAD_LIMIT: Final = 64 * KIB  # of the request line and all headers
_HEADERS: Final = 128
_FRAMING: Final = 16  # bytes beside one of a body: chunks of one byte each need 6
_FRAMING_LIMIT: Final = 1024 * KIB  # beyond that: chunk extensions and trailers without end; a few reads of the socket
_VERSIONS: Final = ("1.1", "1.0")
_PIPELINED: Final = 16  # requests that wait behind another one of the same connection
_SINGLE: Final = frozenset((b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding"))
_HEAD_SECONDS: Final = 20.0  # for a head to be complete, from the connection's or its first byte on
_BODY_SECONDS: Final = 60.0  # in which not one byte of a body comes
_LINGER_SECONDS: Final = 1.0  # for a client to read its refusal while it still sends


class _Refused(Exception):
    """Carries an ApiError out through the parser."""


class Connection(HttpToolsProtocol):
    """uvicorn makes one for each connection; `expire` is to be called about once a second."""

    _in_head = True
    _bytes = 0  # of this request, its head, framing and trailer; less what they may be beside so much body
    _heads = 0  # heads that are complete
    _reads = 0
    _refused = False
    _seen = (0, 0)  # heads and reads when the wait in `expire` began
    _since: float | None = None
    _running: RequestResponseCycle | None = None  # the request that is being answered; `cycle` is the latest to arrive

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._reads += 1
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            refusal = cause.args[0] if isinstance(cause, _Refused) else errors.not_http()
            self._refuse(cast("ApiError", refusal))

    def _feed(self, data: bytes) -> bytes:
        """Parse; what must be parsed once more is given back."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            return self._without_upgrade() + data[stopped.args[0] :]
        self._bytes += len(data)
        if self._bytes > (HEAD_LIMIT if self._in_head else _FRAMING_LIMIT) and (self._in_head or self.cycle.more_body):
            self._refuse(errors.head_too_large(HEAD_LIMIT))
        return b""

    def _without_upgrade(self) -> bytes:
        """The head that was just parsed, as one that asks for no upgrade, for a new parser."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % (name, _less_upgrade(name, value)) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """The first byte of a request was parsed."""
        super().on_message_begin()
        self._in_head = True
        self._bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header was parsed, or a field of a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """A part of the body was parsed."""
        self._bytes -= len(body) * _FRAMING
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The head is complete: refuse it or begin to answer."""
        self._in_head = False
        self._heads += 1
        if len(self.pipeline) >= _PIPELINED or self.parser.get_http_version() not in _VERSIONS:
            raise _Refused(errors.not_http())
        if (refusal := _fault(self.url, self.headers)) is not None:
            raise _Refused(refusal)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(errors.not_http())
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def expire(self, now: float) -> None:
        """Refuse a request that takes too long to arrive; `now` is the loop's time."""
        limit = self._patience()
        if limit is None:
            self._since = None
            return
        seen = (self._heads, self._reads if limit == _BODY_SECONDS else 0)
        if self._since is None or seen != self._seen:
            self._since, self._seen = now, seen
        elif now - self._since > limit:
            self._refuse(errors.too_slow())

    def _patience(self) -> float | None:
        """How long this side waits for the client's next bytes; None: something else is waited for."""
        resting = self.timeout_keep_alive_task is not None and not self._in_head
        if resting or self._refused or self.transport.is_closing():
            return None
        cycle = self._unanswered()
        if cycle is None:
            return _HEAD_SECONDS
        if cycle.more_body and not self.pipeline and not self.flow.read_paused:
            return _BODY_SECONDS
        return None

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, unless an answer is on its way, and end the connection."""
        self._refused = True
        if (cycle := self._unanswered()) is not None:
            for left in (cycle, cast("RequestResponseCycle", self._running)):
                left.disconnected = True
                left.message_event.set()
            if self.pipeline or cycle.response_started or not cycle.more_body:
                self.transport.close()
                return
        body = error.body()
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            + body
        )
        # Closed at once, with bytes of the client's still unread, the kernel would reset the connection, and the client
        # might never read why.
        if self.transport.can_write_eof():
            self.transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _unanswered(self) -> RequestResponseCycle | None:
        """The latest request, unless its answer is complete."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return None if cycle is None or cycle.response_complete else cycle


def _fault(url: bytes, headers: list[tuple[bytes, bytes]]) -> ApiError | None:
    size = len(url)
    names: set[bytes] = set()
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name in _SINGLE and name in names:
            return errors.repeated_header(name.decode("latin-1"))
        if name == b"transfer-encoding" and value.lower() != b"chunked":
            return errors.not_http()
        if name == b"content-encoding" and value.lower() != b"identity":
            return errors.compressed(value.decode("latin-1"))
        names.add(name)
    return errors.head_too_large(HEAD_LIMIT) if size > HEAD_LIMIT or len(headers) > _HEADERS else None


def _less_upgrade(name: bytes, value: bytes) -> bytes:
    if name != b"connection":
        return value
    return b", ".join(token for word in value.split(b",") if (token := word.strip()).lower() != b"upgrade")
