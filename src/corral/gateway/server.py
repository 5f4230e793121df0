"""The gateway as a thing that starts and stops inside a running event loop; knows neither launcher nor engine."""

import asyncio
import socket
from collections.abc import Mapping
from functools import partial
from ssl import SSLContext
from typing import Final

from corral.gateway import accesslog
from corral.gateway.admission import LocalAdmission
from corral.gateway.app import App
from corral.gateway.desk.desk import Desk
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.forwarding import HEARTBEAT_SECONDS, Forwarding
from corral.gateway.guard import Guard
from corral.gateway.keyring import Keyring
from corral.gateway.metrics import Metrics
from corral.gateway.own import Mount, Own
from corral.gateway.probing import generates
from corral.gateway.record import Record
from corral.gateway.relay.relay import IDLE_SECONDS, Relay
from corral.gateway.table import Table
from corral.gateway.tracing import Tracing, tracing_from_environment
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.httpserver import HttpServer
from corral.gateway.wire.limits import Limits
from corral.gateway.wire.sockets import listen
from corral.units import MIB

BODY_LIMIT: Final = 64 * MIB


class Gateway:
    """One OpenAI endpoint for all deployments of `table`, which may change at any time from within the loop."""

    def __init__(
        self,
        *,
        table: Table | None = None,
        body_limit: int = BODY_LIMIT,
        host_names: frozenset[str] = frozenset(),
        access_log: bool = False,
        heartbeat: float = HEARTBEAT_SECONDS,
        allow_unkeyed: bool = False,
        keys: Keyring | None = None,
        desk: DeskSettings | None = None,
        ssl: SSLContext | None = None,
        limits: Limits | None = None,
        idle_seconds: float = IDLE_SECONDS,
        mounts: Mapping[str, Mount] | None = None,
    ) -> None:
        """`heartbeat`: seconds between two signs of life to a client that waits for a stream.

        `host_names`: DNS names (lower case) by which browsers may reach it, beyond localhost and addresses.

        `allow_unkeyed`: listen where other machines can reach it, though nobody is asked for a key.
        `keys`: those that are asked for; whoever made the keyring keeps it up to date. `ssl`: speak TLS, with what
        this holds at each handshake. `limits`: what a client may take. `idle_seconds`: that an engine may be silent
        within a stream. `mounts`: who else answers, by the first part of the path ("/api").
        """
        self.table = table if table is not None else Table()
        self.metrics = Metrics()
        self._keys = keys or Keyring()
        self.admission = LocalAdmission(Desk(desk), self.table, self._keys, self.metrics)
        self.port = 0  # where it listens, once started
        self._body_limit = body_limit
        self._host_names = host_names
        self._access_log = access_log
        self._heartbeat = heartbeat
        self._tracing: Tracing | None = None
        self._ssl = ssl
        self._mounts = mounts
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._allow_unkeyed = allow_unkeyed
        self._relay: Relay | None = None
        self._server: HttpServer | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Listen (port 0: any free one) and answer from now on; BadInput when the place cannot be listened on."""
        if self._server is not None:
            raise RuntimeError("the gateway has been started already")
        sockets = listen(host, port, loopback_only=not (self._allow_unkeyed or self._keys.guarded))
        self.port = sockets[0].getsockname()[1]
        self._relay = Relay(idle_seconds=self._idle_seconds)
        self._tracing = tracing_from_environment()
        self.admission.probe = partial(generates, self._relay)
        names = self._host_names
        if self._allow_unkeyed:
            names |= {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
        guard = Guard(names, self._keys)
        self._forwarding = Forwarding(
            self.admission, self._relay, body_limit=self._body_limit, heartbeat=self._heartbeat
        )
        app = App(
            guard,
            self._forwarding,
            Own(guard, self.table, lambda: self.metrics.exposition(self.admission.standing()), self._mounts).answer,
            self._ended,
            tracing=self._tracing,
        )
        self._server = HttpServer(app, limits=self._limits, tls=self._ssl)
        await self._server.start(sockets)

    def _ended(self, exchange: Exchange, record: Record) -> None:
        self.admission.ended(record)
        if self._access_log:
            accesslog.log(exchange, record)

    async def stop(self, grace: float = 10.0) -> None:
        """Accept no more, give running requests `grace` seconds, then end them with a word to their clients."""
        if self._server is None or self._relay is None:
            return
        server, relay = self._server, self._relay
        self._server = self._relay = None
        await server.stop(grace)
        self.admission.close()
        await relay.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)  # it may wait for a collector
