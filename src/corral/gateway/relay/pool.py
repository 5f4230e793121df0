"""Connections to engines: opened, kept while they wait for their next request, closed; knows no HTTP but its places."""

import asyncio
import socket
import ssl
from functools import cache, lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from corral.gateway.relay.connection import Connection

# llama.cpp lets 128 connections wait to be accepted; beyond, the kernel tries again after 1, 3 and 7 s.
_CONNECT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 2.0
_TRUSTED_SECONDS: Final = 0.05  # no server closes a connection so soon after it answered; looking costs a system call
# An engine whose machine vanished is noticed after a minute of silence, also while it computes.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class Unreachable(Exception):
    """No connection came about: nothing was sent."""


class Place(NamedTuple):
    """Where an engine listens."""

    host: str
    port: int
    encrypted: bool
    authority: str  # as a Host header says it
    path: str  # before the routes'; mostly empty


@lru_cache(maxsize=1024)
def place_of(base_url: str) -> Place:
    """Take "https://api.example:8443/openai" apart; ValueError when it is none."""
    url = urlsplit(base_url)
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
        raise ValueError(f"{base_url!r} is no base URL")
    encrypted = url.scheme == "https"
    return Place(url.hostname, url.port or (443 if encrypted else 80), encrypted, url.netloc, url.path.rstrip("/"))


class Pool:
    """Made inside the event loop that it is used in."""

    def __init__(self) -> None:
        self.busy: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Place, list[tuple[float, Connection]]] = {}  # since when, oldest first
        self._sweeping: asyncio.TimerHandle | None = None

    async def take(self, place: Place) -> Connection:
        """A connection of one's own, to be given back or closed; Unreachable when there is none to be had."""
        connection = self._waiting(place) or await self._opened(place)
        self.busy.add(connection)
        return connection

    def give(self, place: Place, connection: Connection, *, keep: bool) -> None:
        """Give it back; it is closed unless it is to be kept and can be used again."""
        self.busy.discard(connection)
        if not (keep and connection.reusable()):
            connection.close()
            return
        self._idle.setdefault(place, []).append((self._loop.time(), connection))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_IDLE_SECONDS, self._sweep)

    def close(self) -> None:
        """Close all of them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for waiting in self._idle.values():
            for _, connection in waiting:
                connection.close()
        self._idle.clear()
        for connection in list(self.busy):
            connection.close()

    def _waiting(self, place: Place) -> Connection | None:
        waiting = self._idle.get(place)
        while waiting:
            since, connection = waiting.pop()
            idle = self._loop.time() - since
            if idle <= _IDLE_SECONDS and connection.is_fresh(look=idle > _TRUSTED_SECONDS):
                return connection
            connection.close()
        return None

    async def _opened(self, place: Place) -> Connection:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop), place.host, place.port, ssl=_tls() if place.encrypted else None
                )
        except (OSError, TimeoutError) as error:  # an ssl.SSLError and a failed look-up are OSErrors too
            raise Unreachable(str(error)) from error
        connected: socket.socket = connection.transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        return connection

    def _sweep(self) -> None:
        """Close what waited too long, and come back while anything waits."""
        self._sweeping = None
        oldest = self._loop.time() - _IDLE_SECONDS
        for place, waiting in list(self._idle.items()):
            for since, connection in waiting:
                if since <= oldest:
                    connection.close()
            kept = [entry for entry in waiting if entry[0] > oldest]
            if kept:
                self._idle[place] = kept
            else:
                del self._idle[place]
        if self._idle:
            self._sweeping = self._loop.call_later(_IDLE_SECONDS / 4, self._sweep)


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
