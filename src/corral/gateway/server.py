"""The gateway as a thing that starts and stops inside a running event loop; knows neither launcher nor engine."""

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from ssl import SSLContext

import msgspec

from corral.gateway import accesslog
from corral.gateway.admission import LocalAdmission
from corral.gateway.desk.desk import Desk
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.values import Replica
from corral.gateway.front import Front, FrontSettings
from corral.gateway.guard import Guard
from corral.gateway.keyring import Keyring
from corral.gateway.metrics import Metrics
from corral.gateway.own import Mount, Own
from corral.gateway.probing import generates
from corral.gateway.record import Record
from corral.gateway.table import Table
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.sockets import listen
from corral.gateway.wire.tls import Pair
from corral.gateway.workers.asking import answered_by
from corral.gateway.workers.hosting import HostedWorker
from corral.gateway.workers.messages import Configure
from corral.gateway.workers.pool import WorkerPool


class Gateway:
    """One OpenAI endpoint for all models of `table`, which may change at any time from within the loop.

    With `workers`, that many processes answer clients and ask engines, and this one keeps the desk for all of them.
    """

    def __init__(
        self,
        settings: FrontSettings | None = None,
        *,
        table: Table | None = None,
        keys: Keyring | None = None,
        desk: DeskSettings | None = None,
        allow_unkeyed: bool = False,
        ssl: SSLContext | None = None,
        mounts: Mapping[str, Mount] | None = None,
        workers: int = 0,
        tls: Pair | None = None,
    ) -> None:
        """`keys`: those that are asked for; whoever made the keyring keeps it up to date.

        `allow_unkeyed`: listen where other machines can reach it, though nobody is asked for a key. `ssl`: speak TLS,
        with what this holds at each handshake; `tls` are its files, which workers read themselves. `mounts`: who else
        answers, by the first part of the path ("/api").
        """
        self.table = table if table is not None else Table()
        self.metrics = Metrics()
        self.port = 0  # where it listens, once started
        self.front: Front | None = None
        self.pool: WorkerPool | None = None
        self._settings = settings or FrontSettings()
        self._keys = keys or Keyring()
        self.admission = LocalAdmission(Desk(desk), self.table, self._keys, self.metrics, self._probe)
        self._allow_unkeyed = allow_unkeyed
        self._ssl = ssl
        self._tls = tls
        self._mounts = mounts
        self._workers = workers
        self._sockets: list[socket.socket] = []

    async def start(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Listen (port 0: any free one) and answer from now on; BadInput when the place cannot be listened on."""
        if self.front is not None:
            raise RuntimeError("the gateway has been started already")
        sockets = listen(host, port, loopback_only=not (self._allow_unkeyed or self._keys.guarded))
        self.port = sockets[0].getsockname()[1]
        if self._allow_unkeyed:
            here = socket.gethostname().lower()
            names = self._settings.host_names | {here, f"{here}.local"}
            self._settings = msgspec.structs.replace(self._settings, host_names=names)
        front = Front(self._settings, self.admission, self._keys, self._own, self._ended, ssl=self._ssl)
        self.front = front
        if self._workers:
            self.pool = WorkerPool(self._workers, sockets, partial(self._hosted, front), self._configuration)
            self._keys.on_change = self.reconfigure
            self._sockets = sockets
            await self.pool.start()
        else:
            await front.start(sockets)

    def reconfigure(self) -> None:
        """Tell the workers that keys or certificate have changed."""
        if self.pool is not None:
            self.pool.configure()

    async def stop(self, grace: float = 10.0) -> None:
        """Accept no more, give running requests `grace` seconds, then end them with a word to their clients."""
        if self.front is None:
            return
        front, pool = self.front, self.pool
        self.front = self.pool = None
        for one in self._sockets:
            one.close()
        if pool is not None:
            await pool.stop(grace)
        await front.stop(grace)
        self.admission.close()

    async def _probe(self, replica: Replica) -> bool:
        return self.front is not None and await generates(self.front.relay, replica)

    def _own(self, guard: Guard) -> Callable[[Exchange], Awaitable[None]]:
        return Own(guard, self.table, self._exposition, self._mounts).answer

    def _exposition(self) -> bytes:
        return self.metrics.exposition(self.admission.standing())

    def _hosted(self, front: Front, serving: Callable[[], None], lost: Callable[[], None]) -> HostedWorker:
        return HostedWorker(self.admission, self._worker_ended, partial(answered_by, front.app), serving, lost)

    def _worker_ended(self, record: Record, line: str) -> None:
        self._keys.note_use(record.key, time.time())
        self.admission.ended(record)
        if line:
            accesslog.write(line)

    def _configuration(self) -> Configure:
        tls = None if self._tls is None else (str(self._tls.cert), str(self._tls.key))
        return Configure(settings=self._settings, keys=self._keys.state(), tls=tls)

    def _ended(self, exchange: Exchange, record: Record) -> None:
        self.admission.ended(record)
        if self._settings.access_log:
            accesslog.write(accesslog.line_of(exchange, record))
