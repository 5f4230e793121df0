"""The worker processes of one gateway: started, started anew when one dies, told to finish; knows no request."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from corral.errors import CorralError
from corral.gateway.workers.hosting import HostedWorker
from corral.gateway.workers.messages import Configure, Finish

_logger: Final = logging.getLogger("corral.gateway")
_AGAIN_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # before a worker that died is started anew; the last one stays
_START_SECONDS: Final = 60.0
_HEALTHY_SECONDS: Final = 30.0  # a worker that lived so long is forgiven
_AFTER_GRACE_SECONDS: Final = 3.0


class WorkerPool:
    """`count` processes that share the listening sockets. Use inside one event loop."""

    def __init__(
        self,
        count: int,
        sockets: Sequence[socket.socket],
        host: Callable[[Callable[[], None], Callable[[], None]], HostedWorker],
        configuration: Callable[[], Configure],
    ) -> None:
        """`host(serving, lost)` makes the head's side of a worker; `configuration()` is what each is told first."""
        self._count = count
        self._sockets = sockets
        self._host = host
        self._configuration = configuration
        self._workers: dict[int, HostedWorker] = {}  # by process id
        self._keepers: list[asyncio.Task[None]] = []
        self._grace: float | None = None

    async def start(self) -> None:
        """Start all; returns when each accepts connections, and CorralError when one does not come to that."""
        started = [asyncio.Event() for _ in range(self._count)]
        self._keepers = [asyncio.create_task(self._keep(event), name="gateway worker") for event in started]
        try:
            async with asyncio.timeout(_START_SECONDS):
                for event in started:
                    await event.wait()
        except TimeoutError:
            await self.stop(0)
            raise CorralError(
                "The gateway's worker processes do not start.", "Their words are in logs/head.log."
            ) from None

    def configure(self) -> None:
        """Tell all workers the configuration anew: it has changed."""
        message = self._configuration()
        for worker in self._workers.values():
            worker.channel.send(message)

    def pids(self) -> tuple[int, ...]:
        """The processes that run now."""
        return tuple(self._workers)

    async def stop(self, grace: float) -> None:
        """Let running requests end for `grace` seconds; then end what is left."""
        self._grace = grace
        for worker in self._workers.values():
            worker.channel.send(Finish(grace))
        await asyncio.gather(*self._keepers)

    async def _keep(self, started: asyncio.Event) -> None:
        """Keep one worker alive until the pool stops."""
        deaths = 0
        while self._grace is None:
            began = asyncio.get_running_loop().time()
            code = await self._run(started)
            if self._grace is not None:
                return
            lived = asyncio.get_running_loop().time() - began
            deaths = 1 if lived > _HEALTHY_SECONDS else deaths + 1
            pause = _AGAIN_SECONDS[min(deaths, len(_AGAIN_SECONDS)) - 1]
            _logger.error("A gateway worker ended with status %s; another starts in %s s", code, pause)
            await asyncio.sleep(pause)

    async def _run(self, started: asyncio.Event) -> int:
        """One worker from start to end; its exit status."""
        ours, theirs = socket.socketpair()
        lost = asyncio.Event()
        with theirs:
            handles = [theirs.fileno(), *(one.fileno() for one in self._sockets)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "corral.gateway.workers.process", *map(str, handles),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, pass_fds=handles,
            )  # fmt: skip
        worker = self._host(started.set, lost.set)
        ours.setblocking(False)  # noqa: FBT003 - the standard library's signature
        await asyncio.get_running_loop().connect_accepted_socket(lambda: worker.channel, ours)
        worker.channel.send(self._configuration())
        self._workers[process.pid] = worker
        try:
            await lost.wait()
            return await self._ended(process)
        finally:
            del self._workers[process.pid]

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Wait for a worker that has let go of its channel, not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout((self._grace or 0.0) + _AFTER_GRACE_SECONDS):
                return await process.wait()
        with suppress(ProcessLookupError):
            process.kill()
        return await process.wait()
