"""An engine's answer on its way to the client: a stream of events, or another body; knows no queue and no retry."""

import time
from typing import Final

from corral.gateway import errors
from corral.gateway.record import Gaps
from corral.gateway.relay import usage
from corral.gateway.relay.connection import Broken, Connection
from corral.gateway.relay.events import Events
from corral.gateway.relay.pool import Place, Pool
from corral.gateway.relay.usage import Usage
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.headers import to_client
from corral.units import MIB

COLLECTED: Final = 1 * MIB


class Lease:
    """A connection for one request, and the way back to where it came from."""

    __slots__ = ("_keep", "_place", "_pool", "connection")

    def __init__(self, pool: Pool, place: Place, connection: Connection, *, keep: bool) -> None:
        self.connection = connection
        self._pool = pool
        self._place = place
        self._keep = keep

    def end(self) -> None:
        """Give the connection back; closed, unless it was read to its end: so an engine learns that nobody waits."""
        self._pool.give(self._place, self.connection, keep=self._keep)


class Answer:
    """An engine's answer whose first bytes are here. Pass it on or close it."""

    __slots__ = ("_hide_usage", "_idle_seconds", "_lease", "first", "status", "streams", "whole")

    def __init__(self, lease: Lease, first: bytes, *, whole: bool, hide_usage: bool, idle_seconds: float) -> None:
        self._lease = lease
        self._hide_usage = hide_usage
        self._idle_seconds = idle_seconds
        self.status = lease.connection.status
        self.streams = lease.connection.streams
        self.first = first
        self.whole = whole  # `first` is all

    async def pass_on(self, exchange: Exchange, name: str) -> None:
        """Send it to the client; ApiError when the engine breaks off."""
        try:
            if self.streams:
                await self._stream(exchange)
            elif exchange.started:  # comments were sent, since a stream was asked for
                raise errors.not_streamed(name)
            elif self.whole:
                _note(exchange, usage.read(self.first)[0])
                await exchange.reply(self.status, self.first, to_client(self._lease.connection.headers))
            else:
                await self._long(exchange)
        except Broken as error:
            raise errors.died(name) from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._lease.end()

    async def _stream(self, exchange: Exchange) -> None:
        connection = self._lease.connection
        connection.end_after_silence(self._idle_seconds)
        events = Events(hide_usage=self._hide_usage)
        gaps = exchange.gaps = Gaps()
        await exchange.start_stream(self.status, to_client(connection.headers))
        chunk, count, last = self.first, 0, 0.0
        try:
            while chunk:
                passed = events.feed(chunk)
                if events.count > count:
                    now = time.monotonic()
                    if exchange.first_chunk:
                        gaps.add(now - last, events.count - count)
                    elif events.spoken:
                        exchange.first_chunk = now
                    count, last = events.count, now
                if passed:
                    await exchange.write(passed)
                chunk = await connection.read()
            await exchange.finish(events.end())
        finally:
            _note(exchange, events.usage)
            if exchange.tokens.output is None:
                # The client left, or the engine does not say. A token or more an event: to leave early, or to have a
                # stream under another name than `stream: true`, is no way to have it for nothing.
                exchange.tokens.output = events.count

    async def _long(self, exchange: Exchange) -> None:
        connection = self._lease.connection
        headers = to_client(connection.headers)
        if connection.length is not None:
            headers.append((b"content-length", connection.length))
        await exchange.start(self.status, headers)
        chunk = self.first
        while chunk:
            await exchange.write(chunk)
            chunk = await connection.read()
        await exchange.finish()


def _note(exchange: Exchange, found: Usage) -> None:
    tokens = exchange.tokens
    tokens.prompt, tokens.cached, tokens.output = found.prompt, found.cached, found.output
