"""The gateway as a thing that starts and stops inside a running event loop; knows neither launcher nor engine."""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from functools import partial
from ssl import SSLContext
from typing import Final, cast

import uvicorn

from corral.gateway import accesslog
from corral.gateway.admission import LocalAdmission
from corral.gateway.app import App
from corral.gateway.desk.desk import Desk
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.forwarding import HEARTBEAT_SECONDS, Forwarding
from corral.gateway.guard import Guard
from corral.gateway.keyring import Keyring
from corral.gateway.metrics import Metrics
from corral.gateway.own import Own
from corral.gateway.probing import generates
from corral.gateway.record import Record
from corral.gateway.relay.relay import Relay
from corral.gateway.table import Table
from corral.gateway.tracing import Tracing, tracing_from_environment
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.connection import Connection
from corral.gateway.wire.sockets import listen
from corral.units import MIB

BODY_LIMIT: Final = 64 * MIB
# Longer than the pools of common clients keep a connection (httpx 5 s, aiohttp 15 s, nginx 60 s), so that it is not
# this side that closes one in the moment in which it is used again.
_IDLE_SECONDS: Final = 75
_AFTER_GRACE_SECONDS: Final = 1.0


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
    ) -> None:
        """`heartbeat`: seconds between two signs of life to a client that waits for a stream.

        `host_names`: DNS names (lower case) by which browsers may reach it, beyond localhost and addresses.

        `allow_unkeyed`: listen where other machines can reach it, though nobody is asked for a key.
        `keys`: those that are asked for; whoever made the keyring keeps it up to date. `ssl`: speak TLS, with what
        this holds at each handshake.
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
        self._allow_unkeyed = allow_unkeyed
        self._relay: Relay | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Listen (port 0: any free one) and answer from now on; BadInput when the place cannot be listened on."""
        if self._serving is not None:
            raise RuntimeError("the gateway has been started already")
        sockets = listen(host, port, loopback_only=not (self._allow_unkeyed or self._keys.guarded))
        self.port = sockets[0].getsockname()[1]
        self._relay = Relay()
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
            Own(guard, self.table, lambda: self.metrics.exposition(self.admission.standing())).answer,
            self._ended,
            tracing=self._tracing,
        )
        self._server = _Server(app, self._ssl)
        self._serving = asyncio.create_task(self._server.serve(sockets), name="gateway")
        await self._server.listening.wait()

    def _ended(self, exchange: Exchange, record: Record) -> None:
        self.admission.ended(record)
        if self._access_log:
            accesslog.log(exchange, record)

    async def stop(self, grace: float = 10.0) -> None:
        """Accept no more, give running requests `grace` seconds, then end them with a word to their clients."""
        if self._server is None or self._serving is None or self._relay is None:
            return
        server, serving, relay = self._server, self._serving, self._relay
        self._server = self._serving = self._relay = None
        server.leave()
        done, _ = await asyncio.wait({serving}, timeout=grace)
        if not done:
            server.end_requests()
            done, _ = await asyncio.wait({serving}, timeout=_AFTER_GRACE_SECONDS)
        if not done:
            server.drop_connections()
        await serving
        self.admission.close()
        await relay.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)  # it may wait for a collector


class _Server(uvicorn.Server):
    """uvicorn on given sockets, without its signal handlers: the process has its own."""

    def __init__(self, app: App, ssl: SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # the gateway logs what matters itself
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_IDLE_SECONDS,
                ssl_context_factory=None if ssl is None else lambda _config, _default: ssl,
            )
        )
        self.listening = asyncio.Event()
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, and say when it is done."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Once a second, unlike uvicorn's ten times: the Date header, and requests that take too long to arrive."""
        while not await self.on_tick(0):
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                cast("Connection", connection).expire(now)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), 1)

    def leave(self) -> None:
        """Stop listening, and end once the last connection did."""
        self.should_exit = True
        self._leaving.set()

    def end_requests(self) -> None:
        """Cancel the requests that still run; each tells its client why."""
        for task in list(self.server_state.tasks):
            task.cancel()

    def drop_connections(self) -> None:
        """Cut off clients that do not even read their last word."""
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()
