"""The way from a request to a replica, for whoever answers requests: asks the desk, waits, settles; knows no HTTP.

`Admission` is what a front sees. `LocalAdmission` has the desk in its own process and gives it the time; a worker
process has a `RemoteAdmission` (gateway.workers), which asks the head's.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Final, Protocol

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Ask, Grant, Outcome, Replica
from corral.gateway.errors import ApiError
from corral.gateway.keyring import Keyring
from corral.gateway.metrics import Metrics, Standing
from corral.gateway.record import Record
from corral.gateway.serving import served
from corral.gateway.table import Table

LEFT: Final = Outcome(end="left")
Prober = Callable[[Replica], Awaitable[bool]]


class Waiting:
    """A request that waits. `granted` ends with a Grant or an ApiError."""

    __slots__ = ("granted", "progress")

    def __init__(self, granted: "asyncio.Future[Grant]", progress: Callable[[], str]) -> None:
        self.granted = granted
        self.progress = progress  # for people: "in the queue", "loading: weights, 40 %"


class Admission(Protocol):
    """Lets requests in. Every Grant must be settled, once."""

    def arrive(self, ask: Ask) -> Grant | Waiting:
        """A request is here; ApiError when it may not, or cannot, be answered."""
        ...

    def leave(self, waiting: Waiting) -> None:
        """The client of a waiting request went, perhaps in the moment in which it was granted."""
        ...

    def again(self, grant: Grant, outcome: Outcome) -> Grant | Waiting | None:
        """A granted request did not run: another replica, or None, and then the grant is settled."""
        ...

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """A granted request is over."""
        ...

    def ended(self, record: Record) -> None:
        """An exchange is over, whether it was granted or not."""
        ...


class LocalAdmission:
    """The desk in this process, kept up to date with the table.

    `probe` tries a replica with a real generation; `on_record` is told of each exchange with its Unix time, for usage.
    """

    def __init__(self, desk: Desk, table: Table, keys: Keyring, metrics: Metrics, probe: Prober) -> None:
        self.on_record: Callable[[Record, float], None] | None = None
        self._probe = probe
        self._desk = desk
        self._table = table
        self._keys = keys
        self._keys_version = -1
        self._metrics = metrics
        # By the ticket's number. The name is the model's that it began to wait for: a fallback may take it over.
        self._waiting: dict[int, tuple[str, Waiting]] = {}
        self._tickets: dict[Waiting, Ticket] = {}
        self._probing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        for name in table.states():
            self._changed(name)
        table.subscribe(self._changed)

    def arrive(self, ask: Ask) -> Grant | Waiting:
        """A request is here; ApiError when it may not, or cannot, be answered."""
        self._know_keys()
        try:
            answer = self._desk.arrive(ask, time.monotonic(), time.time())
        except ApiError:
            self._tell_demands(time.monotonic())  # one that cannot wait for its model wants it all the same
            raise
        return self._granted(answer) if isinstance(answer, Grant) else self._wait(answer)

    def leave(self, waiting: Waiting) -> None:
        """The client of a waiting request went, perhaps in the moment in which it was granted."""
        ticket = self._tickets.get(waiting)
        if ticket is not None:
            self._waits_no_more(ticket)
            self._desk.leave(ticket, time.monotonic())
            self.turn()
        elif waiting.granted.done() and not waiting.granted.cancelled() and waiting.granted.exception() is None:
            self.settle(waiting.granted.result(), LEFT)

    def again(self, grant: Grant, outcome: Outcome) -> Grant | Waiting | None:
        """A granted request did not run: another replica, or None, and then the grant is settled."""
        self._table.ended(grant.model)
        answer = self._desk.again(grant.number, outcome, time.monotonic())
        self.turn()
        if answer is None:
            return None
        self._metrics.retried(grant.model, grant.replica.id, outcome.end)
        return self._granted(answer) if isinstance(answer, Grant) else self._wait(answer)

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """A granted request is over."""
        self._table.ended(grant.model)
        self._desk.settle(grant.number, outcome, time.monotonic())
        self.turn()

    def ended(self, record: Record) -> None:
        """An exchange is over, whether it was granted or not."""
        self._metrics.ended(record)
        if self.on_record is not None:
            self.on_record(record, time.time())

    def charge(self, tokens: Mapping[str, int]) -> None:
        """Count what keys (by id) used earlier today, before this process began."""
        self._know_keys()
        for key, used in tokens.items():
            self._desk.charge(key, used, time.time())

    def turn(self) -> None:
        """Let those go on whose turn it is, and try replicas that are left alone; after all that changes anything."""
        now = time.monotonic()
        given_back = False
        for ticket, result in self._desk.due(now):
            given_back |= self._decide(self._waits_no_more(ticket), result, now)
        for replica in self._desk.probes(now):
            task = asyncio.get_running_loop().create_task(self._try(replica))
            self._probing.add(task)
            task.add_done_callback(self._probing.discard)
        if given_back:
            return self.turn()
        return self._arm(now)

    def standing(self) -> Standing:
        """How the desk stands, for the metrics page."""
        counts = self._desk.snapshot(time.monotonic())
        return Standing(
            in_flight={(one.model, name): one.running for name, one in counts.replicas.items()},
            queued={name: one.waiting for name, one in counts.models.items()},
            breakers={(one.model, name): one.breaker for name, one in counts.replicas.items()},
        )

    def close(self) -> None:
        """Stop timers and probes; those who wait are told by whoever answers them."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._probing:
            task.cancel()

    def _know_keys(self) -> None:
        if self._keys.version != self._keys_version:
            self._keys_version = self._keys.version
            self._desk.set_keys(self._keys.limits())

    def _granted(self, grant: Grant) -> Grant:
        self._table.began(grant.model)
        return grant

    def _wait(self, ticket: Ticket) -> Waiting:
        waiting = Waiting(asyncio.get_running_loop().create_future(), lambda: progress_of(ticket))
        self._waiting[ticket.number] = (ticket.model.name, waiting)
        self._tickets[waiting] = ticket
        self._table.waits(ticket.model.name)
        now = time.monotonic()
        self._tell_demands(now)
        self._arm(now)
        return waiting

    def _tell_demands(self, now: float) -> None:
        for demand in self._desk.demanded(now):
            self._table.demand(demand.model)

    def _decide(self, waiting: Waiting, result: Grant | ApiError, now: float) -> bool:
        """Tell one who waited; whether a grant came too late for its client, and was given back."""
        if waiting.granted.done():  # its client left in this moment; `leave` comes too late to find it here
            if isinstance(result, Grant):
                self._desk.settle(result.number, LEFT, now)
            return isinstance(result, Grant)
        if isinstance(result, Grant):
            waiting.granted.set_result(self._granted(result))
        else:
            waiting.granted.set_exception(result)
        return False

    def _waits_no_more(self, ticket: Ticket) -> Waiting:
        name, waiting = self._waiting.pop(ticket.number)
        del self._tickets[waiting]
        self._table.waits(name, -1)
        return waiting

    def _arm(self, now: float) -> None:
        """Be called again when something is due by itself."""
        due = self._desk.next_due()
        if due == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = None if due == inf else asyncio.get_running_loop().call_later(max(0.0, due - now), self._ring)

    def _ring(self) -> None:
        self._timer_at = inf
        self.turn()

    def _changed(self, name: str) -> None:
        """The launcher changed what is served."""
        model = served(self._table, name)
        if model is None:
            self._desk.withdraw(name)
        else:
            self._desk.serve(model, time.monotonic())
        if self._waiting:
            self.turn()

    async def _try(self, replica: Replica) -> None:
        works = False
        try:
            works = await self._probe(replica)
        finally:
            self._desk.probed(replica.id, ok=works, now=time.monotonic())
            self.turn()


def progress_of(ticket: Ticket) -> str:
    """How far a waiting request has come, for people."""
    loading = ticket.progress
    if loading is None:
        left = "" if ticket.expected is None else f", about {ticket.expected:.0f} s"
        return f"in the queue of {ticket.model.name}{left}"
    share = "" if loading.fraction is None else f", {loading.fraction:.0%}"
    left = "" if loading.seconds_left is None else f", about {loading.seconds_left:.0f} s"
    return f"{ticket.model.name} loads: {loading.stage}{share}{left}"
