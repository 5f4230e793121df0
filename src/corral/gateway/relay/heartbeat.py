"""Signs of life to a client whose answer takes long to begin, so that no proxy on the way cuts it off."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from corral.gateway.wire.asgi import Exchange


class Heartbeat:
    """Inside the context, the exchange's stream gets a comment every `seconds`; none where no stream was asked for.

    Nothing is sent before the first of them is due, so that an answer that begins earlier keeps its own status.
    """

    def __init__(self, exchange: Exchange, seconds: float, text: Callable[[], str], *, streams: bool) -> None:
        self._exchange = exchange
        self._seconds = seconds
        self._text = text
        self._streams = streams
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._streams:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._beat)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send no more; a comment that is half way to a slow client is sent to its end, so that nothing cuts it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._exchange.comment(self._text()))
        self._timer = loop.call_later(self._seconds, self._beat)
