"""The gateway as an ASGI application: finds the route and the model, and says what came of it; owns no socket."""

import asyncio
import contextlib
import logging
import time
from typing import Final

from corral.gateway import accesslog, errors, reports, routes
from corral.gateway.desk.values import Replica
from corral.gateway.metrics import CONTENT_TYPE, Metrics
from corral.gateway.relay.relay import Relay
from corral.gateway.table import Failed, Loading, Ready, Table
from corral.gateway.wire import browsers
from corral.gateway.wire.asgi import ClientGone, Exchange, Header, Receive, Scope, Send
from corral.gateway.wire.body import model_of, with_model

_logger: Final = logging.getLogger("corral.gateway")
_LAST_WORD_SECONDS: Final = 0.2  # for telling a client that the server goes down


class App:
    """Answers exchanges out of a table, through a relay."""

    def __init__(
        self,
        table: Table,
        relay: Relay,
        metrics: Metrics,
        *,
        body_limit: int,
        host_names: frozenset[str] = frozenset(),
        access_log: bool = False,
    ) -> None:
        self._table = table
        self._relay = relay
        self._metrics = metrics
        self._body_limit = body_limit
        self._host_names = host_names
        self._access_log = access_log
        self._turn = 0  # of the replicas of a model, which take turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange; never raises."""
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
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
            seconds = time.monotonic() - exchange.arrived
            self._metrics.ended(exchange, seconds)
            if self._access_log:
                accesslog.log(exchange, seconds)

    async def _answer(self, exchange: Exchange) -> None:
        path = exchange.path
        if path in routes.FORWARDED:
            exchange.route = path
        elif path in routes.READ or path.startswith(f"{routes.MODELS}/"):
            exchange.route = path if path in routes.READ else routes.MODELS
        self._guard(exchange)
        allowed = _allowed(exchange.route)
        if not allowed:
            raise errors.unknown_path(path, routes.FORWARDED | routes.READ)
        if exchange.method == "OPTIONS":
            await self._options(exchange, allowed)
        elif exchange.method not in allowed:
            raise errors.wrong_method(exchange.method, exchange.route, allowed)
        elif exchange.route in routes.FORWARDED:
            await self._forward(exchange)
        else:
            await self._report(exchange)

    def _guard(self, exchange: Exchange) -> None:
        """Refuse what a foreign web page makes a browser send."""
        host = exchange.headers.get(b"host", b"")
        if not browsers.host_allowed(host, self._host_names):
            raise errors.foreign_host(host.decode("latin-1"))
        origin = exchange.headers.get(b"origin")
        if origin is None:
            return
        if not browsers.origin_allowed(origin, host, self._host_names):
            raise errors.foreign_origin(origin.decode("latin-1"))
        if exchange.method != "OPTIONS":
            exchange.add_headers(browsers.cors(origin))

    async def _options(self, exchange: Exchange, allowed: tuple[str, ...]) -> None:
        headers: list[Header] = [(b"allow", ", ".join(allowed).encode())]
        if (origin := exchange.headers.get(b"origin")) is not None:
            asked = exchange.headers.get(b"access-control-request-headers", b"")
            headers += browsers.preflight(origin, asked)
        await exchange.start(204, headers)
        await exchange.finish()

    async def _report(self, exchange: Exchange) -> None:
        match exchange.route:
            case routes.HEALTH:
                await exchange.reply(200, b'{"status": "alive"}')
            case routes.READY:
                ready, body = reports.readiness(self._table.states())
                await exchange.reply(200 if ready else 503, body)
            case routes.METRICS:
                await exchange.reply(200, self._metrics.exposition(), [(b"content-type", CONTENT_TYPE)])
            case _ if exchange.path == routes.MODELS:
                await exchange.reply(200, reports.models(self._table.listed()))
            case _:
                await self._one_model(exchange, exchange.path.removeprefix(f"{routes.MODELS}/"))

    async def _one_model(self, exchange: Exchange, name: str) -> None:
        known, listed = self._table.resolve(name), self._table.listed()
        if known is None or known not in listed:
            raise errors.unknown_model(name, tuple(listed))
        exchange.model = known
        await exchange.reply(200, reports.model(known, listed[known]))

    async def _forward(self, exchange: Exchange) -> None:
        body = await exchange.read(self._body_limit, errors.too_large)
        asked = model_of(body)
        replica = self._replica(exchange, asked)
        name = exchange.model
        if asked is not None and asked != name:
            body = with_model(body, name)  # by an alias, or another answers in its place
        self._metrics.began(name)
        self._table.began(name)
        try:
            await self._while_client_waits(exchange, replica, body)
        except errors.ApiError as error:
            if error.code in errors.UPSTREAM_CODES:
                self._metrics.upstream_error(name, error.code)
            raise
        finally:
            self._metrics.left(name)
            self._table.ended(name)

    def _replica(self, exchange: Exchange, asked: str | None) -> Replica:
        """The engine for the model that is asked for; marks the exchange with the model's name."""
        asked = asked if asked is not None else self._table.only()
        served = tuple(self._table.states())
        if asked is None:
            raise errors.missing_model(served)
        name = self._table.resolve(asked)
        if name is None:
            raise errors.unknown_model(asked, served)
        state = self._table.get(name)
        ready = self._table.ready()
        if isinstance(state, Failed) and (others := [other for other in self._table.fallback(name) if other in ready]):
            name, state = others[0], ready[others[0]]
        exchange.model = name
        if isinstance(state, Failed):
            raise errors.failed(name, state.cause, state.seconds)
        if not isinstance(state, Ready):
            self._table.demand(name)
            state = self._table.get(name)  # it may be on its way by now
            raise errors.loading(name, state if isinstance(state, Loading) else Loading("asked for", 0.0))
        self._turn += 1
        serving = self._table.serving(name)
        replica = serving[self._turn % len(serving)]
        if replica.embeddings and exchange.route in routes.GENERATING:
            raise errors.only_embeds(name)
        return replica

    async def _while_client_waits(self, exchange: Exchange, upstream: Replica, body: bytes) -> None:
        """Forward, and stop at once when the client goes: that closes the connection to the engine too."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        watch = asyncio.create_task(_cancel_when_left(exchange, task))
        try:
            await self._relay.forward(exchange, upstream, exchange.route, body)
        except asyncio.CancelledError:
            if not exchange.client_gone:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            watch.cancel()


def _allowed(route: str) -> tuple[str, ...]:
    if route in routes.FORWARDED:
        return routes.POST
    return routes.GET if route in routes.READ else ()


async def _cancel_when_left(exchange: Exchange, task: asyncio.Task[object]) -> None:
    await exchange.left()
    if not exchange.finished:
        exchange.client_gone = True
        task.cancel()


async def _say_goodbye(exchange: Exchange) -> None:
    """The server goes down: tell the client, if it listens; the connection is closed after that in any case."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await exchange.fail(errors.stopping())
