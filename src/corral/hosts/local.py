"""The machine that Corral itself runs on, as a host; knows no network."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from corral.hosts.base import Forward
from corral.hosts.running import CHUNK, GRACE_SECONDS, CommandHost, Running

POLL_SECONDS: Final = 0.01


class Local(CommandHost):
    """Commands as child processes, each in a session and process group of its own."""

    def __init__(self, name: str = "local") -> None:
        super().__init__(name)
        self._spawning: set[asyncio.Task[Running]] = set()
        self._running: set[LocalRunning] = set()

    @property
    def is_local(self) -> bool:
        """Always."""
        return True

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Running:
        """Start a child process in the home folder."""
        spawning = asyncio.create_task(self._spawn(argv, env))
        self._spawning.add(spawning)
        spawning.add_done_callback(self._spawning.discard)
        try:
            return await asyncio.shield(spawning)  # cancelled halfway, asyncio would lose the child's own children
        except asyncio.CancelledError:
            await (await spawning).end()
            raise

    async def _spawn(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Running:
        home = Path.home()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**os.environ, **env}, start_new_session=True,
                cwd=home if home.is_dir() else "/",
            )  # fmt: skip
        except OSError as error:
            status = 127 if isinstance(error, FileNotFoundError) else 126  # as a shell says it
            return NotStarted(status, f"{argv[0]}: {error.strerror}\n".encode())
        running = LocalRunning(process, self._running)
        self._running.add(running)
        return running

    @asynccontextmanager
    async def forward(self, port: int, *, host: str = "127.0.0.1") -> AsyncGenerator[Forward, None]:
        """Name the same port: it is reachable already."""
        yield Forward(host, port)

    async def close(self) -> None:
        """End what still runs."""
        await asyncio.gather(*self._spawning, return_exceptions=True)
        await asyncio.gather(*(running.end() for running in tuple(self._running)))


class NotStarted:
    """A command that could not be started."""

    def __init__(self, status: int, message: bytes) -> None:
        self._status = status
        self._message = message

    async def read(self) -> bytes:
        """Give nothing."""
        return b""

    async def read_error(self) -> bytes:
        """Give the reason, once."""
        message, self._message = self._message, b""
        return message

    async def write(self, data: bytes) -> None:
        """Drop it."""

    def close_input(self) -> None:
        """Do nothing."""

    async def wait(self) -> int:
        """Give the status at once."""
        return self._status

    async def end(self) -> None:
        """Do nothing."""


class LocalRunning:
    """A child process and its group; it is in `registry` while it runs."""

    def __init__(self, process: Process, registry: "set[LocalRunning]") -> None:
        assert process.stdin is not None  # noqa: S101 - for the type checker: all three are pipes
        assert process.stdout is not None  # noqa: S101 - as above
        assert process.stderr is not None  # noqa: S101 - as above
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._registry = registry

    async def read(self) -> bytes:
        """Read some of its standard output."""
        return await self._stdout.read(CHUNK)

    async def read_error(self) -> bytes:
        """Read some of its standard error."""
        return await self._stderr.read(CHUNK)

    async def write(self, data: bytes) -> None:
        """Write to its standard input."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._stdin.write(data)
            await self._stdin.drain()

    def close_input(self) -> None:
        """End its standard input."""
        self._stdin.close()

    async def wait(self) -> int:
        """Wait for its end."""
        status = await self._process.wait()
        self._close()
        return status

    async def end(self) -> None:
        """End the group."""
        if self not in self._registry:
            return
        try:
            self._signal(signal.SIGTERM)
            self.close_input()  # for what waits there and missed the signal, as a shell's child before its exec may
            await self._ended_within(GRACE_SECONDS)
        finally:  # also when the waiting is cancelled
            self._signal(signal.SIGKILL)  # what ignored the first or outlived its leader
        await self._ended_within(GRACE_SECONDS)
        self._close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self._process.pid, number)

    async def _ended_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._process.returncode is None:  # noqa: ASYNC110 - Process.wait waits for readers too
                    await asyncio.sleep(POLL_SECONDS)

    def _close(self) -> None:
        """Let the pipes go, which a process that left the group may still hold."""
        self._registry.discard(self)
        self._process._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - asyncio gives no other way
