"""A worker's side of the channel: its admission is the head's desk, one round trip away; knows no HTTP."""

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from corral.gateway.admission import Waiting
from corral.gateway.desk.values import Ask, Grant, Outcome
from corral.gateway.errors import stopping
from corral.gateway.record import Record
from corral.gateway.workers.channel import Channel
from corral.gateway.workers.messages import (
    Again,
    Answered,
    Arrive,
    Configure,
    Ended,
    Finish,
    FromHead,
    FromWorker,
    Granted,
    Leave,
    Refused,
    Relayed,
    Settle,
    Waits,
)


class _RemoteWaiting(Waiting):
    """A request that waits at the head's desk."""

    __slots__ = ("id", "text")

    def __init__(self, number: int) -> None:
        self.id = number
        self.text = "waiting"
        super().__init__(asyncio.get_running_loop().create_future(), lambda: self.text)


class RemoteAdmission:
    """The head's desk. `configure` and `finish` are called with what the head says of its own accord."""

    def __init__(
        self, configure: Callable[[Configure], None], finish: Callable[[Finish], None], lost: Callable[[], None]
    ) -> None:
        self._configure = configure
        self._finish = finish
        self._lost = lost
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _RemoteWaiting] = {}
        self._relayed: dict[int, asyncio.Future[Answered]] = {}
        self.channel: Channel[FromHead, FromWorker] = Channel(
            msgspec.msgpack.Decoder(FromHead), self._on_message, self._on_lost
        )

    def arrive(self, ask: Ask) -> Waiting:
        """A request is here."""
        waiting = self._wait()
        self.channel.send(Arrive(waiting.id, ask))
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """The client of a waiting request went, perhaps in the moment in which it was granted."""
        assert isinstance(waiting, _RemoteWaiting)  # noqa: S101 - made here
        self._waiting.pop(waiting.id, None)
        self.channel.send(Leave(waiting.id))

    def again(self, grant: Grant, outcome: Outcome) -> Waiting:
        """Settle a grant whose request did not run, and ask for another replica; the head repeats the error if none."""
        waiting = self._wait()
        self.channel.send(Again(waiting.id, grant.number, outcome))
        return waiting

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """A granted request is over."""
        self.channel.send(Settle(grant.number, outcome))

    def ended(self, record: Record, line: str = "") -> None:
        """An exchange is over; `line` is for the access log."""
        self.channel.send(Ended(record, line))

    async def relayed(self, request: Callable[[int], Relayed]) -> Answered:
        """Have the head answer an exchange."""
        number = next(self._numbers)
        future: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._relayed[number] = future
        try:
            self.channel.send(request(number))
            return await future
        finally:
            del self._relayed[number]

    def _wait(self) -> _RemoteWaiting:
        waiting = _RemoteWaiting(next(self._numbers))
        self._waiting[waiting.id] = waiting
        return waiting

    def _on_message(self, message: FromHead) -> None:
        match message:
            # One whose client has just left is done already: Leave is on its way, and gives the grant back.
            case Granted(id, grant):
                if (waiting := self._waiting.pop(id, None)) is not None and not waiting.granted.done():
                    waiting.granted.set_result(grant)
            case Refused(id):
                if (waiting := self._waiting.pop(id, None)) is not None and not waiting.granted.done():
                    waiting.granted.set_exception(message.error())
            case Waits(id, text):
                if (waiting := self._waiting.get(id)) is not None:
                    waiting.text = text
            case _:
                self._on_word(message)

    def _on_word(self, message: Answered | Configure | Finish) -> None:
        match message:
            case Answered(id):
                if (future := self._relayed.get(id)) is not None and not future.done():
                    future.set_result(message)
            case Configure():
                self._configure(message)
            case Finish():
                self._finish(message)

    def _on_lost(self) -> None:
        """The head is gone: nothing more can be let in."""
        for waiting in self._waiting.values():
            if not waiting.granted.done():
                waiting.granted.set_exception(stopping())
        self._waiting.clear()
        for future in self._relayed.values():
            if not future.done():
                future.set_exception(stopping())
        self._lost()
