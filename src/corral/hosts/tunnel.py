"""A listening port here, each of whose connections is joined to a far end; knows not what leads there."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import asyncssh

from corral.errors import NodeFailed

CHUNK: Final = 262144  # bytes


class Reader(Protocol):
    """What asyncio's and asyncssh's readers have in common."""

    async def read(self, n: int = -1, /) -> bytes:
        """Read up to n bytes; b"" at the end."""
        ...


class Writer(Protocol):
    """What asyncio's and asyncssh's writers have in common."""

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        ...

    async def drain(self) -> None:
        """Wait until there is room."""
        ...

    def write_eof(self) -> None:
        """End this direction."""
        ...

    def close(self) -> None:
        """End both."""
        ...


Streams = tuple[Reader, Writer]


@asynccontextmanager
async def listening(open_far_end: Callable[[], Awaitable[Streams]]) -> AsyncGenerator[int, None]:
    """Listen on a free port of 127.0.0.1 and yield it; what is joined is cut when the context is left.

    When the far end cannot be opened, the connection here is reset, as a refused one would be.
    """
    joined: set[asyncio.Task[None]] = set()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await open_far_end()
        except (asyncssh.Error, OSError, NodeFailed):
            _reset(writer)
            return
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        except (asyncssh.Error, OSError):
            _reset(writer)
        finally:
            far_writer.close()
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(join(reader, writer))
        joined.add(task)
        task.add_done_callback(joined.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=CHUNK)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(joined):
            task.cancel()
        await asyncio.gather(*joined, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection off so that the other side sees an error and no orderly end."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _copy(reader: Reader, writer: Writer) -> None:
    """Copy one direction to its end."""
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    with contextlib.suppress(OSError):  # the other direction may have closed both
        writer.write_eof()
