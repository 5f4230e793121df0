"""What the gateway answers itself: models, health, readiness, metrics, and what is mounted; asks no engine."""

from collections.abc import Awaitable, Callable, Mapping

from corral.gateway import errors, reports, routes
from corral.gateway.guard import Guard, answer_options, check_method
from corral.gateway.metrics import CONTENT_TYPE
from corral.gateway.table import State, Table
from corral.gateway.wire.asgi import Exchange

Mount = Callable[[Exchange], Awaitable[None]]


class Own:
    """Answers the exchanges that are not forwarded."""

    def __init__(
        self, guard: Guard, table: Table, exposition: Callable[[], bytes], mounts: Mapping[str, Mount] | None = None
    ) -> None:
        """`exposition` gives the metrics page; `mounts` are answered by others, by the first part of their path."""
        self._guard = guard
        self._table = table
        self._exposition = exposition
        self._mounts = dict(mounts or {})

    async def answer(self, exchange: Exchange) -> None:
        """Answer, or raise ApiError."""
        path = exchange.path
        if path in routes.READ:
            exchange.route = path
        elif path.startswith(f"{routes.MODELS}/"):
            exchange.route = routes.MODELS
        self._guard.check(exchange)
        mount = self._mounts.get(f"/{path[1:].partition('/')[0]}")
        if mount is not None:
            return await mount(exchange)
        allowed = routes.GET if exchange.route in routes.READ else ()
        if allowed and exchange.method == "OPTIONS":
            return await answer_options(exchange, allowed)
        check_method(exchange, allowed)
        return await self._report(exchange)

    async def _report(self, exchange: Exchange) -> None:
        match exchange.route:
            case routes.HEALTH:
                await exchange.reply(200, b'{"status": "alive"}')
            case routes.READY:
                ready, body = reports.readiness(self._table.states(), in_full=exchange.identity is not None)
                await exchange.reply(200 if ready else 503, body)
            case routes.METRICS:
                await exchange.reply(200, self._exposition(), [(b"content-type", CONTENT_TYPE)])
            case _ if exchange.path == routes.MODELS:
                await exchange.reply(200, reports.models(self._seen_by(exchange)))
            case _:
                await self._one_model(exchange, exchange.path.removeprefix(f"{routes.MODELS}/"))

    async def _one_model(self, exchange: Exchange, name: str) -> None:
        known, seen = self._table.resolve(name), self._seen_by(exchange)
        if known is None or known not in seen:
            raise errors.unknown_model(name, tuple(seen))
        exchange.model = known
        await exchange.reply(200, reports.model(known, seen[known]))

    def _seen_by(self, exchange: Exchange) -> Mapping[str, State]:
        """The models that can be asked for and that the key may use."""
        identity = exchange.identity
        return {name: state for name, state in self._table.listed().items() if identity and identity.may_see(name)}
