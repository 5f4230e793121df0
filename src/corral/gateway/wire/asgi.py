"""One HTTP exchange as ASGI gives it: what is asked, and what was answered so far; knows no route and no engine."""

import random
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias

from corral.gateway.desk.values import Outcome
from corral.gateway.errors import ApiError
from corral.gateway.keyring import ANONYMOUS, Identity
from corral.gateway.record import Gaps, Record, Tokens
from corral.gateway.wire.room import Room

Scope: TypeAlias = Mapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_random: Final = random.Random()  # noqa: S311 - an id is to be unique, not secret; seeded by the system, but asked once
_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = ((b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache"))


class ClientGone(Exception):
    """The client closed its connection: nobody is left to answer."""


class Exchange:
    """A request and its answer. Times are of `time.monotonic`, counts are bytes of bodies."""

    __slots__ = (
        "_answer_headers", "_receive", "_send", "_write", "arrived", "bytes_in", "bytes_out", "cancelled",
        "client_gone", "code", "finished", "first_chunk", "gaps", "headers", "identity", "method", "model", "outcome",
        "path", "replica", "request_id", "route", "scope", "status", "streams", "tokens", "tries", "waited",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        # By name in lower case; the gateway's own server has them so already.
        self.headers: dict[bytes, bytes] = scope.get("corral.fields") or dict(scope["headers"])
        self.request_id = _request_id(self.headers.get(b"x-request-id", b""))
        self.route = "none"  # one of a fixed set, for labels
        self.model = ""  # a name of the table, for labels
        self.replica = ""  # the one that was asked last
        self.identity: Identity | None = ANONYMOUS  # None: a key is needed, and none that is good came
        self.code = ""  # of the error that was answered
        self.waited = 0.0  # seconds at the desk
        self.tries = 0  # replicas that were asked
        self.outcome: Outcome | None = None  # how the last of them did
        self.tokens = Tokens()  # as the engine counts them
        self.gaps: Gaps | None = None  # between the events of a stream
        self.arrived = time.monotonic()
        self.first_chunk = 0.0  # when the first chunk of a stream came from the engine
        self.status = 0  # 0: nothing was answered yet
        self.streams = False  # the answer is a stream of events
        self.finished = False
        self.client_gone = False
        self.cancelled = False
        self.bytes_in = 0
        self.bytes_out = 0
        self._receive = receive
        self._send = send
        self._write: Callable[[bytes], Awaitable[None] | None] | None = scope.get("corral.write")  # cheaper than `send`
        self._answer_headers: list[Header] = [(b"x-request-id", self.request_id.encode())]

    @property
    def key(self) -> str:
        """The public id of the client's key; empty where nobody was asked for one, or none came."""
        return self.identity.id if self.identity else ""

    @property
    def started(self) -> bool:
        """Whether the status was sent, after which it can no longer be changed."""
        return self.status != 0

    @property
    def answer_headers(self) -> tuple[Header, ...]:
        """What is added to whatever will be answered."""
        return tuple(self._answer_headers)

    def add_headers(self, headers: Iterable[Header]) -> None:
        """Add to the headers of whatever will be answered."""
        self._answer_headers.extend(headers)

    async def read(self, limit: int, refuse: Callable[[int], ApiError], room: Room | None = None) -> bytes:
        """The whole body; `refuse(limit)` is raised as soon as it is known to be longer than `limit` bytes.

        `room`: what it takes of it is in `bytes_in`, and the caller's to give back, also after an error.
        """
        if int(self.headers.get(b"content-length", b"0")) > limit:
            raise refuse(limit)
        parts: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            parts.append(message.get("body", b""))
            self.bytes_in += len(parts[-1])
            if room is not None:
                room.take(len(parts[-1]), self.bytes_in)
            if self.bytes_in > limit:
                raise refuse(limit)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def when_left(self, call: Callable[[], object] | None) -> None:
        """Have `call` called in the moment in which the client goes before its answer is complete; None: no more."""
        hook = self.scope.get("corral.when_left")
        if hook is not None:  # as another ASGI server has none
            hook(call)

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Send the status and the headers; without a content-length the body is sent in chunks."""
        self.status = status
        answer = [*headers, *self._answer_headers]
        await self._send({"type": "http.response.start", "status": status, "headers": answer})

    async def start_stream(self, status: int, headers: Iterable[Header]) -> None:
        """Send the status and headers of a stream of events, unless comments were sent before it."""
        self.streams = True
        if not self.started:
            await self.start(status, headers)

    async def comment(self, text: str) -> None:
        """Send a sign of life that clients of a stream ignore; it opens the stream if nothing was sent before it."""
        await self.start_stream(200, _EVENTS)
        await self.write(f": {text}\n\n".encode())

    async def write(self, part: bytes) -> None:
        """Send a part of the body, and wait while the client is slower than its connection's buffer allows."""
        self.bytes_out += len(part)
        if self._write is None:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
        elif (writable := self._write(part)) is not None:
            await writable

    async def finish(self, part: bytes = b"") -> None:
        """Send the last part of the body."""
        self.bytes_out += len(part)
        await self._send({"type": "http.response.body", "body": part, "more_body": False})
        self.finished = True

    def record(self) -> Record:
        """What is remembered of it; to be asked for when it is over."""
        return Record(
            route=self.route,
            method=self.method,
            model=self.model,
            replica=self.replica,
            key=self.key,
            status=self.status,
            code=self.code,
            cancelled=self.cancelled,
            seconds=time.monotonic() - self.arrived,
            waited=self.waited,
            first_token=self.first_chunk - self.arrived if self.first_chunk else None,
            gap_counts=tuple(self.gaps.counts) if self.gaps else (),
            gap_seconds=self.gaps.seconds if self.gaps else 0.0,
            prompt_tokens=self.tokens.prompt or 0,
            cached_tokens=self.tokens.cached or 0,
            output_tokens=self.tokens.output or 0,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            tries=self.tries,
        )

    async def reply(self, status: int, body: bytes, headers: Iterable[Header] = (_JSON,)) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.finish(body)

    async def fail(self, error: ApiError) -> None:
        """Answer with an error in the way that is still open.

        Nothing sent yet: status and JSON. Within a stream of events: an event that OpenAI's clients raise, and the end.
        Within another body: nothing; the server closes the connection, and the client sees a body cut short.
        """
        self.code = error.code or ""
        if not self.started:
            await self.reply(error.status, error.body(), [_JSON, *error.headers])
        elif self.streams and not self.finished:
            # The blank lines end an event that was cut off in the middle.
            await self.finish(b"\n\n" + error.event())


def _request_id(asked: bytes) -> str:
    """The client's own id when it is harmless to repeat in headers and logs, else a new one."""
    return asked.decode() if _REQUEST_ID.fullmatch(asked) else f"req-{_random.getrandbits(96):024x}"
