"""A worker process: HTTP for clients and engines, with the head's desk; knows no model, and no key but its digest."""

import asyncio
import logging
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Final

import uvloop

from corral.gateway import accesslog, errors, routes
from corral.gateway.collector import calm
from corral.gateway.front import Front, FrontSettings
from corral.gateway.guard import Guard
from corral.gateway.keyring import Keyring
from corral.gateway.record import Record
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.tls import Pair, Renewal, context
from corral.gateway.workers.messages import Configure, Finish, Relayed, Serving
from corral.gateway.workers.remote import RemoteAdmission

_REQUEST_ID: Final = b"x-request-id"
_FIRST_WORD_SECONDS: Final = 30.0  # for the head to say what is to be known


class Worker:
    """One worker's life: configured, answering, told to finish."""

    def __init__(self, channel: socket.socket, sockets: list[socket.socket]) -> None:
        self._channel = channel
        self._sockets = sockets
        self._configured: asyncio.Future[Configure] = asyncio.get_running_loop().create_future()
        self._grace: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._admission = RemoteAdmission(self._on_configure, self._on_finish, self._on_lost)
        self._keys = Keyring()
        self._renewal: Renewal | None = None
        self._settings = FrontSettings()

    async def run(self) -> None:
        """Answer until told to finish, or until the head is gone."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self._admission.channel, self._channel)
        async with asyncio.timeout(_FIRST_WORD_SECONDS):
            first = await self._configured
        self._settings = first.settings
        front = Front(
            first.settings,
            self._admission,
            self._keys,
            lambda guard: partial(self._ask_head, guard),
            self._ended,
            ssl=self._context(first),
        )
        calm()
        await front.start(self._sockets)
        self._admission.channel.send(Serving())
        grace = await self._grace
        await front.stop(grace)
        self._admission.channel.close()

    def _context(self, first: Configure) -> SSLContext | None:
        if first.tls is None:
            return None
        pair = Pair(*map(Path, first.tls))
        live = context(pair)
        self._renewal = Renewal(pair, live)
        return live

    async def _ask_head(self, guard: Guard, exchange: Exchange) -> None:
        """Have the head answer what is not for an engine; who may not ask is turned away before the body is read."""
        guard.check(exchange)
        body = await exchange.read(self._settings.body_limit, errors.too_large)
        client = exchange.scope.get("client")
        answer = await self._admission.relayed(
            lambda number: Relayed(
                id=number,
                method=exchange.method,
                path=exchange.path,
                query=exchange.scope.get("query_string", b""),
                headers=(*exchange.scope["headers"], (_REQUEST_ID, exchange.request_id.encode())),
                body=body,
                client=client[0] if client else "",
            )
        )
        await exchange.start(answer.status, [pair for pair in answer.headers if pair not in exchange.answer_headers])
        await exchange.finish(answer.body)

    def _ended(self, exchange: Exchange, record: Record) -> None:
        """Tell the head of what was answered here; what it answered itself it has counted."""
        if exchange.route in routes.FORWARDED or exchange.code:
            line = accesslog.line_of(exchange, record) if self._settings.access_log else ""
            self._admission.ended(record, line)

    def _on_configure(self, message: Configure) -> None:
        self._keys.load(message.keys)
        if self._renewal is not None:
            self._renewal.look()
        if not self._configured.done():
            self._configured.set_result(message)

    def _on_finish(self, message: Finish) -> None:
        if not self._grace.done():
            self._grace.set_result(message.grace)

    def _on_lost(self) -> None:
        """Without the head nobody can be let in any more."""
        if not self._grace.done():
            self._grace.set_result(0.0)


async def _run(handles: list[int]) -> None:
    channel, *sockets = (socket.socket(fileno=handle) for handle in handles)
    for one in (channel, *sockets):
        one.setblocking(False)  # noqa: FBT003 - the standard library's signature
    await Worker(channel, sockets).run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # to the head's log
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the head, which tells its workers
    uvloop.run(_run([int(word) for word in sys.argv[1:]]))
