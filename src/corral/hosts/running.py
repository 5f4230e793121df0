"""Commands that run, and a host made of them: whoever can start a command can run, stream, put and get.

Knows no transport: `CommandHost` leaves only `start` and `forward` to Local, Ssh and Fake.
"""

import asyncio
import shlex
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol

from corral.errors import NodeFailed
from corral.hosts import files
from corral.hosts.base import Completed, Forward, Stream
from corral.hosts.lines import LineSplitter

CHUNK: Final = 65536  # bytes read or written at a time
STDERR_KEPT: Final = 65536  # bytes of a stream's standard error, the last ones
GRACE_SECONDS: Final = 3.0  # between asking a command to end (SIGTERM) and ending it (SIGKILL)


class Running(Protocol):
    """A command that runs. Reads give b"" at the end and when the machine is lost; `wait` tells which it was."""

    async def read(self) -> bytes:
        """Read some of its standard output."""
        ...

    async def read_error(self) -> bytes:
        """Read some of its standard error."""
        ...

    async def write(self, data: bytes) -> None:
        """Write to its standard input, as fast as it reads; what it no longer reads is dropped."""
        ...

    def close_input(self) -> None:
        """End its standard input."""
        ...

    async def wait(self) -> int:
        """Wait for its end, after its output was read to the end, and return its exit status or -signal."""
        ...

    async def end(self) -> None:
        """End it and its process group: ask, wait for `GRACE_SECONDS`, force. Nothing once `wait` has returned."""
        ...


def shown(argv: Sequence[str]) -> str:
    """Write a command for an error message, shortened."""
    text = shlex.join(argv)
    return text if len(text) <= 120 else f"{text[:117]}..."


async def drain(read: Callable[[], Awaitable[bytes]]) -> bytes:
    """Read to the end."""
    chunks: list[bytes] = []
    while chunk := await read():
        chunks.append(chunk)
    return b"".join(chunks)


async def drop(read: Callable[[], Awaitable[bytes]]) -> None:
    """Read to the end and keep nothing."""
    while await read():
        pass


async def feed(running: Running, data: bytes) -> None:
    """Write `data` in pieces, so that a command that does not read slows nothing but this."""
    for start in range(0, len(data), CHUNK):
        await running.write(data[start : start + CHUNK])


class LineStream:
    """The standard output of a running command, line by line. Iterate to the end, or only wait."""

    def __init__(self, argv: tuple[str, ...], running: Running, data: bytes) -> None:
        self._argv = argv
        self._running = running
        self._first_input = asyncio.create_task(feed(running, data))  # beside the reading: neither stops the other
        self._splitter = LineSplitter()
        self._lines: deque[bytes] = deque()
        self._iterated = False
        self._errors = bytearray()
        self._errors_read = asyncio.create_task(self._keep_errors())

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._iterated = True
        return self

    async def __anext__(self) -> bytes:
        while not self._lines:
            chunk = await self._running.read()
            self._lines.extend(self._splitter.feed(chunk) if chunk else self._splitter.finish())
            if not chunk and not self._lines:
                await self._running.wait()  # raises when it was the machine that ended it
                raise StopAsyncIteration
        return self._lines.popleft()

    async def write(self, data: bytes) -> None:
        """Write to the command's standard input; what it no longer reads is dropped."""
        await self._first_input
        await self._running.write(data)

    async def wait(self) -> Completed:
        """Wait for the end; what was never iterated is dropped."""
        if not self._iterated:
            await drop(self._running.read)
        status = await self._running.wait()
        await self._errors_read
        return Completed(self._argv, status, b"", bytes(self._errors))

    async def close(self) -> None:
        """End the command if it still runs."""
        try:
            await self._running.end()
        finally:
            self._first_input.cancel()
            self._errors_read.cancel()

    async def _keep_errors(self) -> None:
        while chunk := await self._running.read_error():
            self._errors += chunk
            del self._errors[:-STDERR_KEPT]


class CommandHost(ABC):
    """A host on top of `start`."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """The node's name in the cluster file."""
        return self._name

    @property
    @abstractmethod
    def is_local(self) -> bool:
        """Whether this is the machine that Corral itself runs on."""

    @abstractmethod
    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Running:
        """Start a command in a process group of its own, in the home folder."""

    @abstractmethod
    def forward(self, port: int, *, host: str = "127.0.0.1") -> AbstractAsyncContextManager[Forward]:
        """Make host:port as seen by the machine reachable from here until the context is left."""

    @abstractmethod
    async def close(self) -> None:
        """Give the connection back; commands that still run through it are ended."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - the word that subprocess.run uses
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - part of the request: the command is ended on the far side too
    ) -> Completed:
        """Run a command until it has ended and its output is closed; see `base.Host`."""
        running: Running | None = None
        try:
            async with asyncio.timeout(timeout):
                running = await self.start(tuple(argv), env or {})
                _, stdout, stderr = await asyncio.gather(
                    self._feed_all(running, input), drain(running.read), drain(running.read_error)
                )
                return Completed(tuple(argv), await running.wait(), stdout, stderr)
        except TimeoutError:
            raise NodeFailed(
                self.name,
                f"{self.name} did not finish `{shown(argv)}` within {timeout:g} s.",
                "See whether the machine is overloaded or its disk hangs; the command was ended.",
            ) from None
        finally:
            if running is not None:
                await running.end()

    @asynccontextmanager
    async def stream(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - as above
        env: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Stream, None]:
        """Start a command whose output is read line by line; see `base.Host`."""
        stream = LineStream(tuple(argv), await self.start(tuple(argv), env or {}), input)
        try:
            yield stream
        finally:
            await stream.close()

    async def put(
        self, source: Path | bytes, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Write a file on the machine, whole or not at all; see `base.Host`."""
        await files.put(self, source, target, mode, on_bytes)

    async def get(self, source: str, target: Path) -> None:
        """Read a file of the machine into `target`, whole or not at all."""
        await files.get(self, source, target)

    @staticmethod
    async def _feed_all(running: Running, data: bytes) -> None:
        await feed(running, data)
        running.close_input()
