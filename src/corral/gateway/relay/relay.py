"""Carries one request to an engine and waits for its answer; knows no route, no model and no table.

Decisions that are easy to get wrong:

- A request is sent once. What was sent may have run; whether it may be sent again is not decided here.
- A connection is used once, unless the upstream says otherwise. llama.cpp's server holds a thread for each connection,
  idle or not, and does not always start another for the next one: beside idle connections a request can wait for
  seconds. uvicorn (vLLM, SGLang) has no such trouble, and drops an idle connection after 5 s; here it is dropped after
  2 s, and looked at before it is used again, so that one that breaks then means that the engine died.
- The status is held back until the first byte of the body. vLLM sends its headers before prefill; an engine that dies
  in prefill is then still a 502 that clients repeat, not a broken 200.
- A stream of events is passed on chunk by chunk. Any other body is collected up to 1 MiB first, so that an engine that
  dies half way through is a 502; a longer one is passed on from there.
- No deadline on an answer: a prefill may take minutes. Only connecting has one, and a stream's silence.
"""

from typing import Final

from corral.gateway import errors
from corral.gateway.desk.values import Outcome, Replica
from corral.gateway.errors import ApiError
from corral.gateway.relay.answer import COLLECTED, Answer, Lease
from corral.gateway.relay.connection import Broken, Connection
from corral.gateway.relay.pool import Pool, Unreachable, place_of
from corral.gateway.relay.refusals import refusal
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.headers import opening, rest_of_head
from corral.units import KIB

IDLE_SECONDS: Final = 600.0  # that an engine may be silent within a stream
_BUSY: Final = frozenset((429, 503))  # it says itself that it did not run the request
_REFUSAL: Final = 256 * KIB  # of an engine's error that is read


class NoAnswer(Exception):
    """A replica gave nothing that can be passed on, and no byte has gone to the client."""

    def __init__(self, outcome: Outcome, error: ApiError) -> None:
        super().__init__(error.message)
        self.outcome = outcome  # unreachable, busy, refused or broken
        self.error = error  # what the client is told, if nobody else answers


class Relay:
    """A client of the engines. Made inside the event loop that it is used in; `close` it in the end."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """`idle_seconds`: after so long a silence of an engine within a stream, the stream ends with an error."""
        self.pool = Pool()
        self._idle_seconds = idle_seconds

    async def close(self) -> None:
        """Close all connections."""
        self.pool.close()

    async def ask(
        self, exchange: Exchange, replica: Replica, name: str, body: bytes, *, hide_usage: bool = False
    ) -> Answer:
        """Send the request under the exchange's route, and wait for the first bytes of the answer; or NoAnswer.

        `hide_usage`: the client did not ask for the usage at the end of its stream; the body does (see wire.body).
        """
        place = place_of(replica.base_url)
        head = opening(place.path + exchange.route, place.authority, replica.headers, keep_alive=replica.keep_alive)
        head += rest_of_head(exchange.headers, exchange.request_id, len(body))
        try:
            connection = await self.pool.take(place)
        except Unreachable as error:
            raise NoAnswer(Outcome(end="unreachable"), errors.unreachable(name)) from error
        lease = Lease(self.pool, place, connection, keep=replica.keep_alive)
        try:
            connection.begin(head, body)
            first, whole = await _first_bytes(connection, name)
        except Broken as error:
            lease.end()
            raise NoAnswer(Outcome(end="broken", status=connection.status), errors.died(name)) from error
        except BaseException:
            lease.end()
            raise
        return Answer(lease, first, whole=whole, hide_usage=hide_usage, idle_seconds=self._idle_seconds)


async def _first_bytes(connection: Connection, name: str) -> tuple[bytes, bool]:
    """The first chunk of a stream; of another body all, if it is not too long for that, and whether it is all."""
    await connection.head()
    status = connection.status
    if status >= 400:
        error = await _refused(connection)
        raise NoAnswer(Outcome(end="busy" if status in _BUSY else "refused", status=status), error)
    if status >= 300:
        raise NoAnswer(Outcome(end="broken", status=status), errors.died(name))
    if connection.streams:
        return await connection.read(), False
    return await _collected(connection, COLLECTED)


async def _collected(connection: Connection, limit: int) -> tuple[bytes, bool]:
    """The body, or a little more than `limit` bytes of it; and whether that is all."""
    parts: list[bytes] = []
    size = 0
    while chunk := await connection.read():
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            return b"".join(parts), False
    return b"".join(parts), True


async def _refused(connection: Connection) -> ApiError:
    body, _ = await _collected(connection, _REFUSAL)
    error = refusal(connection.status, body)
    retry = [(name, value) for name, value in connection.headers if name == b"retry-after"]
    error.headers = (*error.headers, *retry)
    return error
