"""Finds each request its place: at an engine, in a queue, or none; knows no key's limits.

A request is offered to the model that it asks for, then to that model's fallbacks; the first that takes it, at once or
after a wait within bounds, has it. Where none does, but engines of one are only thought to be down, it waits there for
the next probe. Those who wait go on in the order of the model's queue.
"""

from math import inf
from typing import TypeAlias

from corral.gateway import errors
from corral.gateway.desk.bounds import bound, estimate, patience, refusal, untried, work_of
from corral.gateway.desk.breaker import Event
from corral.gateway.desk.models import Model
from corral.gateway.desk.names import Names
from corral.gateway.desk.replicas import ReplicaState
from corral.gateway.desk.routing import choose
from corral.gateway.desk.serving import Failed, Loading, Ready, Unloaded
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Grant, Outcome
from corral.gateway.desk.waiting import Waiting
from corral.gateway.errors import ApiError

Answer: TypeAlias = tuple[Ticket, Grant | ApiError]


class Places:
    """Every request that runs or waits."""

    def __init__(self, settings: DeskSettings, names: Names) -> None:
        self._settings = settings
        self._names = names
        self._numbers = 0
        self._running: dict[int, Ticket] = {}  # by the grant's number
        self._waiting = Waiting()
        self._changed: dict[str, Model] = {}  # models whose waiting ones may go on
        self._decided: list[Answer] = []  # told by the next `due`

    def number(self) -> int:
        """A number that was never given before."""
        self._numbers += 1
        return self._numbers

    # Places at engines.

    def find(self, ticket: Ticket, now: float) -> Grant | Ticket | ApiError:
        """Give a request that neither runs nor waits a place, or say why there is none."""
        answer = self._offer(ticket, ticket.asked, now)
        if not isinstance(answer, ApiError):
            return answer
        why_not = answer
        down = None if _trusted(ticket.asked) else ticket.asked
        for model in self._names.chain(ticket.asked, ticket.ask, ticket.account):
            if model is ticket.asked:
                continue
            answer = self._offer(ticket, model, now)
            if not isinstance(answer, ApiError):
                return answer
            if down is None and not _trusted(model):
                down = model
        if (
            down is not None
            and untried(ticket, down)
            and down.back_in(now) <= patience(ticket, down, self._settings, now)
        ):
            return self._wait(ticket, down)
        return why_not

    def take_back(self, number: int, outcome: Outcome, now: float) -> Ticket | None:
        """A grant is over: its place is free, and the replica is known better. None: there is no such grant."""
        ticket = self._running.pop(number, None)
        if ticket is None:
            return None
        state, model = ticket.replica, ticket.model
        assert state is not None  # noqa: S101 - it was granted
        event = state.end(ticket, number, outcome, now)
        if event is not None:
            self.tell(model, state, event, now)
        model.learn(ticket, outcome)
        if model.queue.count:
            model.queue.correct(ticket, work_of(ticket, outcome))
            self._changed[model.name] = model
        return ticket

    def tell(self, model: Model, state: ReplicaState, event: Event, now: float) -> None:
        """Something was learned of a replica."""
        breaker = state.breaker
        was = breaker.state
        breaker.tell(event, now, alone=event is not Event.WORKED and model.alone(state))
        if breaker.state is was:
            return
        if not model.trusted():
            for other in model.replicas:
                other.breaker.hurry(now)
        if model.queue.count:
            self._changed[model.name] = model

    def _offer(self, ticket: Ticket, model: Model, now: float) -> Grant | Ticket | ApiError:
        """A place or a wait at one model, or why not."""
        match model.state:
            case Ready():
                return self._offer_ready(ticket, model, now)
            case Failed(cause, seconds):
                return errors.failed(model.name, cause, seconds)
            case Unloaded(str() as cannot):
                return errors.cannot_load(model.name, cannot)
            case _:
                model.asked = now
                left = model.seconds_left(now)
                most = patience(ticket, model, self._settings, now)
                if most <= 0 or (left is not None and left > most):
                    return refusal(ticket, model, self._settings, now)
                estimate(ticket, model, now)
                ticket.expected = left
                return self._enter(ticket, model, now)

    def _offer_ready(self, ticket: Ticket, model: Model, now: float) -> Grant | Ticket | ApiError:
        queue = model.queue
        if queue.count == queue.choosy:
            if (first := self._choose_to_wait(ticket, model, queue.count, now)) is not None:
                return self._wait(ticket, model, until=now + _patient(first))
            if (grant := self._at_once(ticket, model, now)) is not None:
                return grant
        if not model.trusted() or not untried(ticket, model):
            return refusal(ticket, model, self._settings, now)
        estimate(ticket, model, now)
        most = patience(ticket, model, self._settings, now)
        wait, without_own = model.waits(ticket, now)
        if wait <= most:
            ticket.expected = wait
            return self._enter(ticket, model, now)
        if without_own <= most and ticket.ask.key:
            limit = f"The requests of this key that wait for '{model.name}' already take longer than this one may wait."
            return errors.limit_reached(limit, wait)
        return errors.server_busy(model.name, wait, bound(ticket, model, self._settings))

    def _choose_to_wait(self, ticket: Ticket, model: Model, ahead: int, now: float) -> float | None:
        """Seconds until a better replica than those that are free has a place, if it can wait for that."""
        if not ticket.ask.prefix or not any(state.full() for state in model.replicas):
            return None
        if model.queue.count >= self._settings.queue_limit:
            return None
        chosen = choose(model.replicas, ticket, model.expected_answer(ticket), now)
        first = None if chosen is None else model.better_home(ticket, chosen, ahead, now)
        if first is None or _patient(first) > patience(ticket, model, self._settings, now):
            return None
        ticket.expected = first
        ticket.cost = ticket.prefill + ticket.decode
        return first

    def _at_once(self, ticket: Ticket, model: Model, now: float) -> Grant | None:
        """A place at an engine, if one is free."""
        state = choose(model.replicas, ticket, model.expected_answer(ticket), now)
        if state is None:
            return None
        number = self.number()
        ticket.model = model
        state.begin(ticket, number, now)
        self._running[number] = ticket
        return Grant(number=number, model=model.name, replica=state.replica, waited=now - ticket.arrived)

    # Places in queues.

    def _enter(self, ticket: Ticket, model: Model, now: float) -> Ticket | ApiError:
        """Let it wait, if there is room: the key with the most waiting has to give way to one with less."""
        queue = model.queue
        if queue.count < self._settings.queue_limit:
            return self._wait(ticket, model)
        wait = max(1.0, model.waits(ticket, now)[0])
        last = queue.longest(ticket.priority)
        if last is None or not ticket.ask.key:
            return errors.queue_full(model.name, wait)
        text = f"This key has more requests waiting for '{model.name}' than its share of a full queue."
        if queue.of_key(last) <= queue.of_key(ticket) + 1:
            return (
                errors.limit_reached(text, wait)
                if last.ask.key == ticket.ask.key
                else errors.queue_full(model.name, wait)
            )
        self._dismiss(last, errors.limit_reached(text, wait), now)
        return self._wait(ticket, model)

    def _wait(self, ticket: Ticket, model: Model, *, until: float = inf, front: bool = False) -> Ticket:
        """Put it in the queue; `until` then, and no longer, it may choose to wait while a replica is free."""
        ticket.model = model
        ticket.choosy = until < inf
        ticket.deadline = min(until, ticket.arrived + bound(ticket, model, self._settings))
        model.queue.push(ticket, front=front or bool(ticket.tried))
        self._waiting.add(ticket)
        if not ticket.choosy and isinstance(model.state, Ready) and model.free():
            self._changed[model.name] = model
        return ticket

    def leave(self, ticket: Ticket, now: float) -> None:
        """It waits no more, because its client went. What was decided and not told yet is taken back."""
        if self._waiting.remove(ticket):
            ticket.model.queue.remove(ticket)
            ticket.account.end(ticket, 0, now)
            return
        for at, (decided, answer) in enumerate(self._decided):
            if decided is ticket:
                del self._decided[at]
                if isinstance(answer, Grant):
                    gone = self.take_back(answer.number, Outcome(end="left"), now)
                    if gone is not None:
                        gone.account.end(gone, 0, now)
                return

    def due(self, now: float) -> list[Answer]:
        """What was decided for those who waited."""
        while self._changed:
            _, model = self._changed.popitem()
            self._go_on(model, now)
        for ticket in self._waiting.expired(now):
            if ticket.choosy:
                self._choose_no_more(ticket, now)
            else:
                self._give_up(ticket, now)
        decided, self._decided = self._decided, []
        return decided

    def next(self) -> float:
        """When `due` has something to say, if nothing happens before."""
        return -inf if self._changed or self._decided else self._waiting.next()

    def changed(self, model: Model) -> None:
        """A model's state is new."""
        if model.queue.count:
            self._changed[model.name] = model

    def gone(self, model: Model) -> None:
        """A model is not served any more."""
        model.state = Failed("it is not served any more.")
        model.replicas = ()
        self.changed(model)

    def _go_on(self, model: Model, now: float) -> None:
        """Give free places to those who wait; where there will be none, see whether a fallback has some."""
        queue = model.queue
        if isinstance(model.state, Loading | Unloaded) and not _cannot(model):
            return
        if not _trusted(model) or not isinstance(model.state, Ready):
            for ticket in list(queue):
                self._leave_queue(ticket)
                self._decide(ticket, self.find(ticket, now), now)
            return
        aside: list[Ticket] = []
        while queue.count and model.free():
            ticket = queue.pop()
            first = self._choose_to_wait(ticket, model, len(aside), now)
            if first is not None:
                if not ticket.choosy:
                    ticket.choosy = True
                    ticket.deadline = now + _patient(first)
                    self._waiting.add(ticket)
                aside.append(ticket)
            elif (grant := self._at_once(ticket, model, now)) is not None:
                self._waiting.remove(ticket)
                self._decided.append((ticket, grant))
            else:  # it was at every free one already
                aside.append(ticket)
        for ticket in reversed(aside):
            queue.push(ticket, front=True)

    def _choose_no_more(self, ticket: Ticket, now: float) -> None:
        """The replica that it waited for took longer than expected: any that is free will do."""
        model = ticket.model
        self._leave_queue(ticket)
        ticket.chooses = False
        grant = self._at_once(ticket, model, now)
        if grant is None:
            self._wait(ticket, model, front=True)
        else:
            self._decided.append((ticket, grant))

    def _give_up(self, ticket: Ticket, now: float) -> None:
        """Its wait is over: it has a fallback's place at once, or an error."""
        model = ticket.model
        self._leave_queue(ticket)
        for other in self._names.chain(ticket.asked, ticket.ask, ticket.account):
            if (
                other is not model
                and not other.queue.count
                and (grant := self._at_once(ticket, other, now)) is not None
            ):
                self._decided.append((ticket, grant))
                return
        self._decide(ticket, refusal(ticket, model, self._settings, now), now)

    def _dismiss(self, ticket: Ticket, error: ApiError, now: float) -> None:
        self._leave_queue(ticket)
        self._decide(ticket, error, now)

    def _leave_queue(self, ticket: Ticket) -> None:
        self._waiting.remove(ticket)
        ticket.model.queue.remove(ticket)

    def _decide(self, ticket: Ticket, answer: Grant | Ticket | ApiError, now: float) -> None:
        if isinstance(answer, Ticket):
            return
        if isinstance(answer, ApiError):
            ticket.account.end(ticket, 0, now)
        self._decided.append((ticket, answer))


def _trusted(model: Model) -> bool:
    return not isinstance(model.state, Ready) or model.trusted()


def _cannot(model: Model) -> bool:
    return isinstance(model.state, Unloaded) and model.state.cannot is not None


def _patient(first: float) -> float:
    """Seconds after which a wait that was expected to be so long was misjudged."""
    return 2 * first + 0.5
