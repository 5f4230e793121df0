"""The gateway as an ASGI application: finds out who answers, and says what came of it; owns no socket and no model."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from corral.gateway import errors, routes
from corral.gateway.forwarding import Forwarding
from corral.gateway.guard import Guard, answer_options, check_method
from corral.gateway.record import Record
from corral.gateway.tracing import Tracing
from corral.gateway.wire.asgi import ClientGone, Exchange, Receive, Scope, Send

_logger: Final = logging.getLogger("corral.gateway")
_LAST_WORD_SECONDS: Final = 0.2  # for telling a client that the server goes down


class App:
    """Answers exchanges: those of forwarded routes by engines, all others by `rest`; tells `ended` of each."""

    def __init__(
        self,
        guard: Guard,
        forwarding: Forwarding,
        rest: Callable[[Exchange], Awaitable[None]],
        ended: Callable[[Exchange, Record], None],
        *,
        tracing: Tracing | None = None,
    ) -> None:
        self._guard = guard
        self._forwarding = forwarding
        self._rest = rest
        self._ended = ended
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange; never raises."""
        exchange = Exchange(scope, receive, send)
        forwarded = exchange.path in routes.FORWARDED
        if forwarded:
            exchange.route = exchange.path
        trace = self._tracing.begin(exchange.route, exchange.headers) if self._tracing and forwarded else None
        try:
            await (self._forward(exchange) if forwarded else self._rest(exchange))
        except errors.ApiError as error:
            await exchange.fail(error)
        except ClientGone:
            exchange.cancelled = True
        except asyncio.CancelledError:
            await _say_goodbye(exchange)
        except Exception:
            _logger.exception("Request %s failed in the gateway", exchange.request_id)
            await exchange.fail(errors.internal(exchange.request_id))
        finally:
            record = exchange.record()
            self._ended(exchange, record)
            if trace is not None:
                trace(record)

    async def _forward(self, exchange: Exchange) -> None:
        self._guard.check(exchange)
        if exchange.method == "OPTIONS":
            return await answer_options(exchange, routes.POST)
        check_method(exchange, routes.POST)
        return await self._forwarding.answer(exchange)


async def _say_goodbye(exchange: Exchange) -> None:
    """The server goes down: tell the client, if it listens; the connection is closed after that in any case."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await exchange.fail(errors.stopping())
