"""The life of a request that goes to an engine: body, desk, replica, answer, and another replica where that is safe.

Whether a request may be sent again, after a replica did not answer it:

- Nothing was sent, or the engine said 429 or 503: it did not run. Always.
- The connection ended before the first byte of the answer: the engine died. What it may have computed has reached
  nobody, and generating has no other effect, so another replica may answer; unless the engine was asked to keep
  something (a stored response).
- A byte of an answer has gone to the client: never.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

import msgspec

from corral.gateway import errors, routes
from corral.gateway.admission import LEFT, Admission, Waiting
from corral.gateway.desk.values import Ask, Grant, Outcome, Replica
from corral.gateway.errors import ApiError
from corral.gateway.relay.heartbeat import Heartbeat
from corral.gateway.relay.relay import NoAnswer, Relay
from corral.gateway.wire.asgi import ClientGone, Exchange
from corral.gateway.wire.body import Body, read, renamed, with_usage
from corral.gateway.wire.room import Room
from corral.units import MIB

HEARTBEAT_SECONDS: Final = 15.0
# A client that waits for a whole answer hears nothing meanwhile, and what lies between cuts silent connections, many of
# them after 60 s. Rather than that it is told to come again.
WHOLE_PATIENCE: Final = 50.0
_BODIES: Final = 512 * MIB  # that requests under way may hold in memory together
_STOPPED: Final = Outcome(end="stopped")
_NOBODY_ELSE: Final = frozenset((errors.NO_OTHER, errors.UNREACHABLE))  # the first replica's own error says more
_NOT_RUN: Final = frozenset(("unreachable", "busy"))


class Forwarding:
    """Answers exchanges of forwarded routes."""

    def __init__(
        self, admission: Admission, relay: Relay, *, body_limit: int, heartbeat: float = HEARTBEAT_SECONDS
    ) -> None:
        """`body_limit` in bytes; `heartbeat`: seconds between two signs of life to a client that waits for a stream."""
        self.body_limit = body_limit
        self.heartbeat = heartbeat
        self._admission = admission
        self._relay = relay
        self._room = Room(_BODIES)

    async def answer(self, exchange: Exchange) -> None:
        """Answer, or raise ApiError; returns when the last byte is sent."""
        try:
            await self._answer(exchange, read(await exchange.read(self.body_limit, errors.too_large, self._room)))
        finally:
            self._room.give(exchange.bytes_in)

    async def _answer(self, exchange: Exchange, body: Body) -> None:
        ask = Ask(
            request_id=exchange.request_id,
            route=exchange.route,
            model=body.model,
            key=exchange.key,
            prompt_tokens=body.prompt_tokens(),
            output_tokens=body.output_tokens,
            prefix=body.prefix(),
            streams=body.streams,
            patience=None if body.streams else WHOLE_PATIENCE,
        )
        await _while_client_waits(exchange, self._carry(exchange, ask, body))

    async def _carry(self, exchange: Exchange, ask: Ask, body: Body) -> None:
        """Wait at the desk, then ask one replica after the other until one has answered."""
        answer: Grant | Waiting = self._admission.arrive(ask)
        failure: ApiError | None = None
        while True:
            grant = await self._granted(exchange, answer, body, failure)
            try:
                return await self._through(exchange, grant, body)
            except NoAnswer as none:
                failure = none.error
                if not _may_repeat(none.outcome, body, exchange.route):
                    self._admission.settle(grant, none.outcome)
                    raise failure from none
                other = self._admission.again(grant, none.outcome)
                if other is None:
                    raise failure from none
                answer = other

    async def _granted(
        self, exchange: Exchange, answer: Grant | Waiting, body: Body, failure: ApiError | None
    ) -> Grant:
        """The grant, once it is there; `failure` is what the replica before this one gave."""
        grant = answer if isinstance(answer, Grant) else await self._waited(exchange, answer, body, failure)
        exchange.waited += grant.waited
        exchange.model, exchange.replica = grant.model, grant.replica.id
        exchange.tries += 1
        return grant

    async def _waited(self, exchange: Exchange, waiting: Waiting, body: Body, failure: ApiError | None) -> Grant:
        try:
            async with Heartbeat(exchange, self.heartbeat, waiting.progress, streams=body.streams):
                return await waiting.granted
        except asyncio.CancelledError:
            self._admission.leave(waiting)
            raise
        except ApiError as error:
            raise failure if failure is not None and error.code in _NOBODY_ELSE else error from None

    async def _through(self, exchange: Exchange, grant: Grant, body: Body) -> None:
        """Ask this replica and pass its answer on; NoAnswer, with the grant not settled, when no byte of one came."""
        began = time.monotonic()
        outcome = _STOPPED
        try:
            async with Heartbeat(exchange, self.heartbeat, _thinking, streams=body.streams):
                sent, added = _sent(body, grant.replica, exchange.route)
                answer = await self._relay.ask(exchange, grant.replica, grant.model, sent, hide_usage=added)
            outcome = Outcome(end="cut", status=answer.status)
            await answer.pass_on(exchange, grant.model)
            outcome = Outcome(end="answered", status=answer.status)
        except NoAnswer as none:
            exchange.outcome = none.outcome = _timed(exchange, none.outcome, began)
            raise
        except asyncio.CancelledError:
            self._settle(exchange, grant, LEFT if exchange.client_gone else _STOPPED, began)
            raise
        except BaseException:
            self._settle(exchange, grant, outcome, began)
            raise
        self._settle(exchange, grant, outcome, began)

    def _settle(self, exchange: Exchange, grant: Grant, outcome: Outcome, began: float) -> None:
        exchange.outcome = _timed(exchange, outcome, began)
        self._admission.settle(grant, exchange.outcome)


def _timed(exchange: Exchange, outcome: Outcome, began: float) -> Outcome:
    """The outcome with what the exchange knows of times and tokens."""
    tokens = exchange.tokens
    return msgspec.structs.replace(
        outcome,
        seconds=time.monotonic() - began,
        first_token=exchange.first_chunk - began if exchange.first_chunk else None,
        prompt_tokens=tokens.prompt,
        cached_tokens=tokens.cached,
        output_tokens=tokens.output,
    )


def _sent(body: Body, replica: Replica, route: str) -> tuple[bytes, bool]:
    """The body as it came, but for the model's name where the engine knows it by another one.

    And whether the usage at the end of a stream is asked for, which the client did not do.
    """
    raw = body.raw if body.model in {None, replica.served_name} else renamed(body.raw, replica.served_name)
    if body.streams and not body.tells_usage and route in routes.USAGE_ON_REQUEST:
        return with_usage(raw), True
    return raw, False


def _may_repeat(outcome: Outcome, body: Body, route: str) -> bool:
    if outcome.end in _NOT_RUN:
        return True
    return outcome.end == "broken" and not (body.stores and route in routes.STORING)


def _thinking() -> str:
    return "the engine reads the prompt"


async def _while_client_waits(exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and stop at once when the client goes: that closes the connection to the engine too."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine that runs has a task

    def stop() -> None:
        exchange.client_gone = True
        task.cancel()

    exchange.when_left(stop)
    try:
        await work
    except asyncio.CancelledError:
        if not exchange.client_gone:
            raise
        task.uncancel()
        raise ClientGone from None
    finally:
        exchange.when_left(None)
