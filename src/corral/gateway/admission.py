"""The way from a request to a replica, for whoever answers requests: asks the desk, waits, settles; knows no HTTP.

`Admission` is what a front sees. `TableAdmission` lets everything in at once, to the table's replicas by turns.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from corral.gateway import errors, routes
from corral.gateway.desk.values import Ask, Grant, Outcome
from corral.gateway.metrics import Metrics, Standing
from corral.gateway.record import Record
from corral.gateway.table import Failed, Loading, Ready, Table

LEFT: Final = Outcome(end="left")


class Waiting:
    """A request that waits. `granted` ends with a Grant or an ApiError."""

    __slots__ = ("granted", "progress")

    def __init__(self, granted: "asyncio.Future[Grant]", progress: Callable[[], str]) -> None:
        self.granted = granted
        self.progress = progress  # for people: "third in the queue", "loading: weights, 40 %"


class Admission(Protocol):
    """Lets requests in. Every Grant must be settled, once."""

    def arrive(self, ask: Ask) -> Grant | Waiting:
        """A request is here; ApiError when it may not, or cannot, be answered."""
        ...

    def leave(self, waiting: Waiting) -> None:
        """The client of a waiting request went, perhaps in the moment in which it was granted."""
        ...

    def again(self, grant: Grant, outcome: Outcome) -> Grant | Waiting | None:
        """Settle a grant whose request did not run, and ask for another replica; None: there is none."""
        ...

    def settle(self, grant: Grant, outcome: Outcome) -> None:
        """A granted request is over."""
        ...

    def ended(self, record: Record) -> None:
        """An exchange is over, whether it was granted or not."""
        ...


class TableAdmission:
    """Lets everything in at once."""

    def __init__(self, table: Table, metrics: Metrics) -> None:
        self._table = table
        self._metrics = metrics
        self._numbers = itertools.count(1)
        self._turn = itertools.count()
        self._asks: dict[int, tuple[Ask, set[str]]] = {}  # with the replicas that were tried, by the grant's number
        self._in_flight: Counter[tuple[str, str]] = Counter()

    def arrive(self, ask: Ask) -> Grant:
        """A request is here; ApiError when it cannot be answered."""
        asked = ask.model if ask.model is not None else self._table.only()
        known = tuple(self._table.states())
        if asked is None:
            raise errors.missing_model(known)
        name = self._table.resolve(asked)
        if name is None:
            raise errors.unknown_model(asked, known)
        state = self._table.get(name)
        ready = self._table.ready()
        if isinstance(state, Failed) and (others := [other for other in self._table.fallback(name) if other in ready]):
            name, state = others[0], ready[others[0]]
        if isinstance(state, Failed):
            raise errors.failed(name, state.cause, state.seconds)
        if not isinstance(state, Ready):
            self._table.demand(name)
            state = self._table.get(name)  # it may be on its way by now
            raise errors.loading(name, state if isinstance(state, Loading) else Loading("asked for", 0.0))
        grant = self._next(name, ask, set())
        assert grant is not None  # noqa: S101 - it is ready, so some replica is
        if grant.replica.embeddings and ask.route in routes.GENERATING:
            self.settle(grant, LEFT)
            raise errors.only_embeds(name)
        return grant

    def leave(self, waiting: Waiting) -> None:
        """Nobody waits here."""

    def again(self, grant: Grant, outcome: Outcome) -> Grant | None:
        """Settle a grant whose request did not run, and ask for another replica; None: there is none."""
        ask, tried = self._asks[grant.number]
        self.settle(grant, outcome)
        other = self._next(grant.model, ask, tried)
        if other is not None:
            self._metrics.retried(grant.model, grant.replica.id, outcome.end)
        return other

    def settle(self, grant: Grant, outcome: Outcome) -> None:  # noqa: ARG002 - nothing is learnt here
        """A granted request is over."""
        del self._asks[grant.number]
        self._in_flight[grant.model, grant.replica.id] -= 1
        self._table.ended(grant.model)

    def ended(self, record: Record) -> None:
        """An exchange is over, whether it was granted or not."""
        self._metrics.ended(record)

    def standing(self) -> Standing:
        """How many requests are where, for the metrics page."""
        return Standing(in_flight=dict(self._in_flight))

    def _next(self, name: str, ask: Ask, tried: set[str]) -> Grant | None:
        serving = [replica for replica in self._table.serving(name) if replica.id not in tried]
        if not serving:
            return None
        replica = serving[next(self._turn) % len(serving)]
        grant = Grant(number=next(self._numbers), model=name, replica=replica)
        self._asks[grant.number] = (ask, tried | {replica.id})
        self._in_flight[name, replica.id] += 1
        self._table.began(name)
        return grant
