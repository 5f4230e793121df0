"""A pair of sockets between the head and a worker, as an asyncio protocol; knows framing, and no message's meaning."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec

from corral.gateway.workers.messages import ChannelBroken, Frames, FromHead, FromWorker, frame

Incoming = TypeVar("Incoming")
Outgoing = TypeVar("Outgoing", FromWorker, FromHead)


class Channel(asyncio.Protocol, Generic[Incoming, Outgoing]):
    """Messages both ways. `on_message` is called for each that comes, `on_lost` once when the other side is gone."""

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[Incoming],
        on_message: Callable[[Incoming], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._decoder = decoder
        self._on_message = on_message
        self._on_lost = on_lost
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand on the messages that are whole."""
        try:
            for encoded in self._frames.feed(data):
                self._on_message(self._decoder.decode(encoded))
        except (ChannelBroken, msgspec.DecodeError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        """Say so."""
        self._transport = None
        self._on_lost()

    def send(self, message: Outgoing) -> None:
        """Send; to a side that is gone, nothing happens."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(message))

    def close(self) -> None:
        """Let go of the other side."""
        if self._transport is not None:
            self._transport.close()
