"""A machine reached over SSH, as a host; knows no cluster.

One connection serves all calls. It is made by the first, made again by the first after a loss, and joined by another
only while more commands run at once than the server allows on one (`link.SESSIONS`).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from corral.errors import NodeFailed
from corral.hosts.base import Forward
from corral.hosts.connection import Connection
from corral.hosts.link import Link, NoSession
from corral.hosts.running import CommandHost, Running
from corral.hosts.tunnel import Streams, listening


class Ssh(CommandHost):
    """A machine and the connections with it."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.name)
        self._to = connection
        self._links: list[Link] = []
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_local(self) -> bool:
        """Never, even when the address is this machine's."""
        return False

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Running:
        """Start a command in a free session."""
        while True:
            link = next((link for link in self._links if link.reserve()), None)
            if link is None:
                await self._connect()
                continue
            try:
                return await link.start(argv, env)
            except NoSession:  # fewer than SESSIONS: the link knows now, and the next is asked
                continue

    @asynccontextmanager
    async def forward(self, port: int, *, host: str = "127.0.0.1") -> AsyncGenerator[Forward, None]:
        """Listen on a port here; each connection goes over the SSH connection of its moment."""

        async def open_far_end() -> Streams:
            connection = (await self._any()).connection
            untyped: Any = connection  # the library's hints leave out that `encoding` decides the streams' type
            return await untyped.open_connection(host, port, encoding=None)

        await self._any()  # an unreachable machine is told now, not to the first client
        async with listening(open_far_end) as here:
            yield Forward("127.0.0.1", here)

    async def close(self) -> None:
        """Close the connections."""
        if self._connecting is not None:
            self._connecting.cancel()
        links, self._links = self._links, []
        await asyncio.gather(*(link.close() for link in links))

    async def _any(self) -> Link:
        while (link := next((link for link in self._links if link.alive), None)) is None:
            await self._connect()
        return link

    async def _connect(self) -> None:
        """Make a connection, or wait for the one that another call is making; its error is every waiter's."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open())
            self._connecting.add_done_callback(self._connected)
        connecting = self._connecting
        try:
            await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if connecting.cancelled():  # by `close`: it is not this call that was cancelled
                raise NodeFailed(self.name, f"The way to {self.name} was closed.", "Start the command again.") from None
            raise

    async def _open(self) -> None:
        for lost in [link for link in self._links if link.connection.is_closed()]:
            self._links.remove(lost)
            await lost.close()  # and with it its way through jump hosts
        self._links.append(await Link.open(self._to))

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # taken: whoever waited has it, and nobody may have waited to the end
