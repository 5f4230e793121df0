"""Serves an ASGI application over HTTP/1.1 on given sockets, inside a running event loop; knows no route.

Why it is one of our own: a client's leaving is told in the moment in which it happens, slow and greedy clients are
bounded in every part of a request, and a request costs two thirds of what it costs in uvicorn.
"""

import asyncio
import contextlib
import socket
import ssl
from typing import Final

from corral.gateway.wire.hub import Application, Hub
from corral.gateway.wire.limits import Limits
from corral.gateway.wire.line import Line

_AFTER_GRACE_SECONDS: Final = 1.0
_HANDSHAKE_SECONDS: Final = 10.0


class HttpServer:
    """Made inside the event loop; started and stopped once."""

    def __init__(
        self, application: Application, *, limits: Limits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.hub = Hub(application, limits or Limits())
        self._tls = tls
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: list[socket.socket]) -> None:
        """Answer from now on."""
        handshake = _HANDSHAKE_SECONDS if self._tls else None
        for one in sockets:
            self._servers.append(
                await self.hub.loop.create_server(
                    lambda: Line(self.hub), sock=one, ssl=self._tls, ssl_handshake_timeout=handshake, backlog=2048
                )
            )

    async def stop(self, grace: float) -> None:
        """Accept no more, give running requests `grace` seconds, then end them, each with a word to its client."""
        for server in self._servers:
            server.close()
        self.hub.leaving = True
        for line in list(self.hub.lines):
            line.leave()
        if not await self._emptied(grace):
            for task in list(self.hub.tasks):
                task.cancel()
            if not await self._emptied(_AFTER_GRACE_SECONDS):
                for line in list(self.hub.lines):  # they do not even read their last word
                    line.transport.abort()
        if self.hub.tasks:
            await asyncio.wait(self.hub.tasks, timeout=_AFTER_GRACE_SECONDS)

    async def _emptied(self, seconds: float) -> bool:
        """Whether all connections ended within this time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.hub.empty.wait(), seconds)
        return not self.hub.lines
