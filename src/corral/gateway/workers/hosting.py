"""The head's side of one worker's channel: what the worker asks, the desk answers; knows no HTTP of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from corral.gateway.admission import LEFT, Admission, Waiting
from corral.gateway.desk.values import Grant, Outcome
from corral.gateway.errors import ApiError, no_other
from corral.gateway.record import Record
from corral.gateway.workers.channel import Channel
from corral.gateway.workers.messages import (
    Again,
    Answered,
    Arrive,
    Ended,
    FromHead,
    FromWorker,
    Granted,
    Leave,
    Refused,
    Relayed,
    Serving,
    Settle,
    Waits,
)

_TELL_SECONDS: Final = 1.0  # between two words on how far a waiting request has come
Answer = Callable[[Relayed], Awaitable[Answered]]


class HostedWorker:
    """A worker's requests at this process's desk. When it is gone, all that it held is given back."""

    def __init__(
        self,
        admission: Admission,
        ended: Callable[[Record, str], None],
        answer: Answer,
        serving: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`ended` is told of exchanges, `answer` answers what is not for engines.

        `serving` is called when the worker accepts connections, `lost` when it is gone.
        """
        self._admission = admission
        self._ended = ended
        self._answer = answer
        self._lost = lost
        self._serving = serving
        self._grants: dict[int, tuple[int, Grant]] = {}  # with the worker's number, by the desk's
        self._granted: dict[int, int] = {}  # the desk's number by the worker's
        self._waiting: dict[int, Waiting] = {}  # by the worker's number
        self._tasks: set[asyncio.Task[None]] = set()
        self._teller: asyncio.TimerHandle | None = None
        self.channel: Channel[FromWorker, FromHead] = Channel(
            msgspec.msgpack.Decoder(FromWorker), self._on_message, self._on_lost
        )

    def _on_message(self, message: FromWorker) -> None:
        match message:
            case Arrive(id, ask):
                self._answered(id, lambda: self._admission.arrive(ask))
            case Again(id, number, outcome):
                grant = self._taken(number)
                self._answered(id, lambda: self._admission.again(grant, outcome))
            case Settle(number, outcome):
                self._settle(number, outcome)
            case Leave(id):
                self._leave(id)
            case Ended(record, line):
                self._ended(record, line)
            case Serving():
                self._serving()
            case Relayed():
                task = asyncio.ensure_future(self._relay(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _answered(self, id: int, ask: Callable[[], Grant | Waiting | None]) -> None:  # noqa: A002 - as the messages
        try:
            answer = ask()
        except ApiError as error:
            self.channel.send(Refused.of(id, error))
            return
        if answer is None:
            self.channel.send(Refused.of(id, no_other()))
        elif isinstance(answer, Grant):
            self._grant(id, answer)
        else:
            self._waiting[id] = answer
            answer.granted.add_done_callback(lambda _: self._decided(id))
            self.channel.send(Waits(id, answer.progress()))
            self._tell_later()

    def _grant(self, id: int, grant: Grant) -> None:  # noqa: A002 - as above
        self._grants[grant.number] = (id, grant)
        self._granted[id] = grant.number
        self.channel.send(Granted(id, grant))

    def _decided(self, id: int) -> None:  # noqa: A002 - as above
        waiting = self._waiting.pop(id, None)
        if waiting is None or waiting.granted.cancelled():
            return
        error = waiting.granted.exception()
        if error is None:
            self._grant(id, waiting.granted.result())
        elif isinstance(error, ApiError):
            self.channel.send(Refused.of(id, error))

    def _leave(self, id: int) -> None:  # noqa: A002 - as above
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            self._admission.leave(waiting)
        elif (number := self._granted.get(id)) is not None:
            self._settle(number, LEFT)  # the grant and the leaving crossed on the way

    def _settle(self, number: int, outcome: Outcome) -> None:
        self._admission.settle(self._taken(number), outcome)

    def _taken(self, number: int) -> Grant:
        id, grant = self._grants.pop(number)  # noqa: A001 - as above
        del self._granted[id]
        return grant

    def _tell_later(self) -> None:
        if self._teller is None and self._waiting:
            self._teller = asyncio.get_running_loop().call_later(_TELL_SECONDS, self._tell)

    def _tell(self) -> None:
        self._teller = None
        for id, waiting in self._waiting.items():  # noqa: A001 - as above
            self.channel.send(Waits(id, waiting.progress()))
        self._tell_later()

    async def _relay(self, message: Relayed) -> None:
        self.channel.send(await self._answer(message))

    def _on_lost(self) -> None:
        """The worker is gone, and its clients with it."""
        if self._teller is not None:
            self._teller.cancel()
        waiting, self._waiting = self._waiting, {}
        for one in waiting.values():
            self._admission.leave(one)
        grants, self._grants = self._grants, {}
        self._granted.clear()
        for _, grant in grants.values():
            self._admission.settle(grant, LEFT)
        for task in self._tasks:
            task.cancel()
        self._lost()
