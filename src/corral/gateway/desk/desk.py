"""Who is let in, in which order, and to which replica. Pure: knows no HTTP; the time is passed in.

A request arrives (`arrive`) and either goes on at once (Grant), waits (Ticket), or is refused (ApiError). Whatever
changes for those who wait is told by `due`, which the caller asks after each call that changes something, and at
`next_due`. A grant ends with `settle`, or with `again`, where the request may be sent once more.

`now` is seconds of one monotonic clock and never goes back; `wall` is Unix time, for limits by UTC day alone.
"""

from collections.abc import Mapping
from math import inf

from corral.gateway.desk.account import DAY, Account
from corral.gateway.desk.breaker import Event
from corral.gateway.desk.models import Model
from corral.gateway.desk.names import Names
from corral.gateway.desk.places import Answer, Places
from corral.gateway.desk.replicas import ReplicaState
from corral.gateway.desk.reports import Demand, Snapshot, demands, snapshot
from corral.gateway.desk.serving import ServedModel
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Ask, Grant, KeyLimits, Outcome, Replica
from corral.gateway.errors import ApiError, revoked_key

NOBODY = KeyLimits(id="")  # whoever is not asked for a key


class Desk:
    """The one desk of a gateway."""

    def __init__(self, settings: DeskSettings | None = None) -> None:
        self._settings = settings or DeskSettings()
        self._names = Names()
        self._accounts: dict[str, Account] = {"": Account(NOBODY)}
        self._replicas: dict[str, tuple[Model, ReplicaState]] = {}  # by id
        self._places = Places(self._settings, self._names)

    # What is served, and to whom.

    def serve(self, served: ServedModel, now: float) -> None:
        """Enter a model or replace its state."""
        model = self._names.models.get(served.name)
        if model is None:
            model = self._names.models[served.name] = Model(served, self._settings, now)
            self._names.changed()
        else:
            renamed = served.aliases != model.served.aliases
            model.adopt(served, now)
            if renamed:
                self._names.changed()
        self._replicas = {
            state.replica.id: (each, state) for each in self._names.models.values() for state in each.replicas
        }
        self._places.changed(model)

    def withdraw(self, name: str) -> None:
        """Take a model out; those who wait for it are told. What runs ends as it would have."""
        model = self._names.models.pop(name, None)
        if model is not None:
            self._names.changed()
            for state in model.replicas:
                self._replicas.pop(state.replica.id, None)
            self._places.gone(model)

    def set_keys(self, keys: Mapping[str, KeyLimits]) -> None:
        """Replace all keys, by id. What a key that stays has used stays used; what runs or waits goes on."""
        accounts = self._accounts
        for gone in [key for key in accounts if key and key not in keys]:
            del accounts[gone]
        for key, limits in keys.items():
            if key in accounts:
                accounts[key].adopt(limits)
            else:
                accounts[key] = Account(limits)

    def charge(self, key: str, tokens: int, wall: float) -> None:
        """Count tokens that a key used earlier today, before this process began."""
        if (account := self._accounts.get(key)) is not None:
            account.charge_day(tokens, int(wall // DAY))

    def usable(self, key: str) -> tuple[str, ...]:
        """The names and aliases that a key may ask for."""
        account = self._accounts.get(key)
        return () if account is None else self._names.usable(account)

    # A request.

    def arrive(self, ask: Ask, now: float, wall: float) -> Grant | Ticket:
        """Let a request go on or wait; ApiError when it can do neither."""
        account = self._accounts.get(ask.key)
        if account is None:
            raise revoked_key()
        model = self._names.asked(ask, account)
        ticket = Ticket(
            number=self._places.number(),
            ask=ask,
            arrived=now,
            account=account,
            asked=model,
            model=model,
            priority=account.limits.priority,
        )
        account.admit(ticket, int(model.expected_answer(ticket)), now, wall)
        answer = self._places.find(ticket, now)
        if isinstance(answer, ApiError):
            account.undo(ticket, now)
            raise answer
        return answer

    def leave(self, ticket: Ticket, now: float) -> None:
        """The client went while it waited. A ticket that waits no more is no error."""
        self._places.leave(ticket, now)

    def settle(self, number: int, outcome: Outcome, now: float) -> None:
        """A granted request is over. A number that is over already is no error."""
        ticket = self._places.take_back(number, outcome, now)
        if ticket is not None:
            ticket.account.end(ticket, _used(ticket, outcome), now)

    def again(self, number: int, outcome: Outcome, now: float) -> Grant | Ticket | None:
        """The attempt failed, and the request may be sent once more: to a replica that it was not sent to yet.

        A Ticket: it waits for one, before others of its key. None: there is none; the request is over, and settled.
        """
        ticket = self._places.take_back(number, outcome, now)
        if ticket is None:
            return None
        assert ticket.replica is not None  # noqa: S101 - it was granted
        ticket.tried = (*ticket.tried, ticket.replica.replica.id)
        answer = self._places.find(ticket, now)
        if isinstance(answer, ApiError):
            ticket.account.end(ticket, _used(ticket, outcome), now)
            return None
        return answer

    def due(self, now: float) -> list[Answer]:
        """Those who waited and now go on, or whose wait is over with an error. Each ticket comes up once."""
        return self._places.due(now)

    def next_due(self) -> float:
        """When to ask `due` and `probes` next, if nothing happens before; inf: not before something happens."""
        return min(
            self._places.next(), min([state.breaker.probe_at for _, state in self._replicas.values()], default=inf)
        )

    # Engines.

    def probes(self, now: float) -> list[Replica]:
        """The replicas to probe now with a real generation of one token; each is named once until `probed` tells."""
        return [state.replica for _, state in self._replicas.values() if state.breaker.wants_probe(now)]

    def probed(self, replica: str, *, ok: bool, now: float) -> None:
        """How a probe ended. A replica that is gone meanwhile is no error."""
        if replica in self._replicas:
            model, state = self._replicas[replica]
            self._places.tell(model, state, Event.PROBE_WORKED if ok else Event.PROBE_FAILED, now)

    def demanded(self, now: float) -> list[Demand]:
        """The models that requests ask for and that are not loaded, the longest waited for first."""
        return demands(self._names.models.values(), self._settings.demand_kept, now)

    def snapshot(self, now: float) -> Snapshot:
        """What there is to count, for metrics."""
        return snapshot(self._names.models.values(), self._accounts, now)


def _used(ticket: Ticket, outcome: Outcome) -> int | None:
    """Tokens that a request used; None: what was reserved.

    Where nobody counted, the time tells: an answer that is broken off is not free.
    """
    if outcome.end in {"unreachable", "busy"} or (outcome.end == "refused" and outcome.status < 500):
        return 0
    prompt = ticket.ask.prompt_tokens if outcome.prompt_tokens is None else outcome.prompt_tokens
    if outcome.output_tokens is not None:
        return prompt + outcome.output_tokens
    if outcome.first_token is None or ticket.replica is None:
        return None
    wrote = (outcome.seconds - outcome.first_token) / ticket.replica.rates.tpot(ticket.streams)
    return max(ticket.reserved, prompt + int(wrote))
