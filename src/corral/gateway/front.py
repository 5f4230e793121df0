"""HTTP for clients, from sockets to answers: one in the head, or one in each worker process; has no desk itself."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ssl import SSLContext
from typing import Final

import msgspec

from corral.gateway.admission import Admission
from corral.gateway.app import App
from corral.gateway.forwarding import HEARTBEAT_SECONDS, Forwarding
from corral.gateway.guard import Guard
from corral.gateway.keyring import Keyring
from corral.gateway.record import Record
from corral.gateway.relay.relay import IDLE_SECONDS, Relay
from corral.gateway.tracing import tracing_from_environment
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.httpserver import HttpServer
from corral.gateway.wire.limits import Limits
from corral.gateway.wire.sockets import connections_for
from corral.units import MIB

BODY_LIMIT: Final = 64 * MIB


class FrontSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How clients are served; the same in every process."""

    body_limit: int = BODY_LIMIT  # bytes
    heartbeat: float = HEARTBEAT_SECONDS  # seconds between two signs of life to a client that waits for a stream
    idle_seconds: float = IDLE_SECONDS  # that an engine may be silent within a stream
    limits: Limits = Limits()
    host_names: frozenset[str] = frozenset()  # DNS names (lower case) by which browsers may call, beyond localhost
    access_log: bool = False


class Front:
    """Made inside the event loop; started and stopped once."""

    def __init__(
        self,
        settings: FrontSettings,
        admission: Admission,
        keys: Keyring,
        rest: Callable[[Guard], Callable[[Exchange], Awaitable[None]]],
        ended: Callable[[Exchange, Record], None],
        *,
        ssl: SSLContext | None = None,
    ) -> None:
        """`rest` gives who answers what is not for engines; `ended` is told of each exchange."""
        guard = Guard(settings.host_names, keys)
        self.relay = Relay(idle_seconds=settings.idle_seconds)
        self.forwarding = Forwarding(
            admission, self.relay, body_limit=settings.body_limit, heartbeat=settings.heartbeat
        )
        self._tracing = tracing_from_environment()
        self.app = App(guard, self.forwarding, rest(guard), ended, tracing=self._tracing)
        connections = connections_for(settings.limits.connections)
        limits = msgspec.structs.replace(settings.limits, connections=connections)
        self.server = HttpServer(self.app, limits=limits, tls=ssl)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Answer from now on."""
        await self.server.start(sockets)

    async def stop(self, grace: float) -> None:
        """Accept no more, give running requests `grace` seconds, then end them with a word to their clients."""
        await self.server.stop(grace)
        await self.relay.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)  # it may wait for a collector
