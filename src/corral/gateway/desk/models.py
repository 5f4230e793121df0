"""One served model as the desk sees it: its state, its replicas, its queue, how long its requests take.

Knows no key and no other model.
"""

from collections.abc import Iterator
from itertools import islice
from math import inf
from typing import Final

from corral.gateway.desk.breaker import State as BreakerState
from corral.gateway.desk.fairqueue import FairQueue
from corral.gateway.desk.rates import Rates
from corral.gateway.desk.replicas import ReplicaState
from corral.gateway.desk.serving import Loading, Ready, ServedModel, Unloaded
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Outcome, Replica
from corral.gateway.routes import CHAT, COMPLETIONS, MESSAGES, RESPONSES

_WRITING: Final = frozenset((CHAT, COMPLETIONS, RESPONSES, MESSAGES))
_ANSWER: Final = 256.0  # tokens of an answer, where nothing is learned yet
_STEP: Final = 0.1  # weight of the newest
_MOST_OFF: Final = 10.0  # times as long as expected: no request counts for more
_FADE: Final = 0.95
_BELIEF: Final = 10.0  # seconds of work for which `pace` is believed to be 1
_LOOKED_AT: Final = 64  # running requests that an estimate looks at
_REMEMBERED: Final = 64  # replicas that left, whose speeds are kept for when they come back
_CHOOSY: Final = 8  # tickets that wait for a full replica while another one is free
_WORTH: Final = 1.1  # times sooner is what that must be
_OVERDUE: Final = 0.25  # a request that runs longer than expected goes on for this share of what it took so far


class Model:
    """One model. Seconds of one monotonic clock."""

    __slots__ = (
        "_expected",
        "_rates",
        "_settings",
        "_took",
        "answer",
        "asked",
        "loading_since",
        "name",
        "pace",
        "queue",
        "replicas",
        "served",
        "state",
    )

    def __init__(self, served: ServedModel, settings: DeskSettings, now: float) -> None:
        self._settings = settings
        self._rates: dict[str, Rates] = {}
        self.replicas: tuple[ReplicaState, ...] = ()
        self.queue = FairQueue(settings.ageing)
        self.answer = _ANSWER  # mean tokens of an answer
        self.pace = 1.0  # seconds that requests have a place at an engine, over what they were expected to cost
        self._took = self._expected = _BELIEF
        self.asked = -inf  # when a request last wanted it loaded
        self.loading_since = now
        self.name = served.name
        self.served = served
        self.state = served.state
        self.adopt(served, now)

    def adopt(self, served: ServedModel, now: float) -> None:
        """Take a new state. A replica that stays as it is keeps what was learned of it."""
        if isinstance(served.state, Loading) and not isinstance(self.state, Loading):
            self.loading_since = now
        self.served = served
        self.state = served.state
        replicas = served.state.replicas if isinstance(served.state, Ready) else ()
        old = {state.replica.id: state for state in self.replicas}
        self.replicas = tuple(self._replica(replica, old.get(replica.id)) for replica in replicas)

    def _replica(self, replica: Replica, old: ReplicaState | None) -> ReplicaState:
        if old is not None and old.replica.base_url == replica.base_url:
            old.replica = replica
            old.slots = replica.slots
            return old
        rates = self._rates.pop(replica.id, None) or Rates(replica.prefill_rate, replica.decode_rate)
        self._rates[replica.id] = rates
        if len(self._rates) > _REMEMBERED:
            del self._rates[next(iter(self._rates))]
        return ReplicaState(replica, self._settings, rates)

    def expected_answer(self, ticket: Ticket) -> float:
        """Tokens that its answer will have."""
        if ticket.ask.route not in _WRITING:
            return 0.0
        most = ticket.ask.output_tokens
        return min(self.answer, most) if most else self.answer

    def learn(self, ticket: Ticket, outcome: Outcome) -> None:
        """Take from an answer how long answers are, and how far estimates are off."""
        if outcome.end != "answered":
            return
        if outcome.output_tokens is not None and ticket.ask.route in _WRITING:
            self.answer += _STEP * (outcome.output_tokens - self.answer)
        if len(self.replicas) > 1 and (learned := ticket.replica) is not None:
            for state in self.replicas:
                state.rates.assume(learned.rates)
        if ticket.cost > 0 and outcome.seconds > 0:
            # Sums, not a mean of ratios: what is asked of it is how long many requests take together.
            self._took = _FADE * self._took + min(outcome.seconds, _MOST_OFF * self.pace * ticket.cost)
            self._expected = _FADE * self._expected + ticket.cost
            self.pace = self._took / self._expected

    def trusted(self) -> bool:
        """Whether some replica's breaker lets real requests through."""
        return any(state.breaker.state is not BreakerState.OPEN for state in self.replicas)

    def alone(self, state: ReplicaState) -> bool:
        """Whether no other replica than this one is trusted."""
        return not any(other.breaker.state is not BreakerState.OPEN for other in self.replicas if other is not state)

    def free(self) -> bool:
        """Whether some replica can take a request now."""
        return any(state.free() for state in self.replicas)

    def back_in(self, now: float) -> float:
        """Seconds until it is known whether one of its replicas is back; inf: there is none."""
        return min((state.breaker.wait(now) for state in self.replicas), default=inf)

    def running(self) -> int:
        """Requests that its replicas run."""
        return sum(len(state.running) for state in self.replicas)

    def better_home(self, ticket: Ticket, chosen: ReplicaState, ahead: int, now: float) -> float | None:
        """Seconds until a full replica has a place where the ticket would be answered sooner than at the chosen one.

        That is one which knows more of the prompt. None: there is none. `ahead` tickets wait so already.
        """
        if ahead >= _CHOOSY or not ticket.chooses:
            return None
        prefix, blocks, answer = ticket.ask.prefix, ticket.blocks, self.expected_answer(ticket)
        here = max(0.0, chosen.busy_until - now) + ticket.prefill + ticket.decode
        best: float | None = None
        for state in self.replicas:
            if not state.full() or state.replica.id in ticket.tried:
                continue
            known = state.prefixes.known(prefix)
            if known > blocks:
                first = (1 + ahead) * self._first([state], now)
                if _WORTH * (first + state.estimate(ticket, answer, known, now)) < here:
                    best = first if best is None else min(best, first)
                chosen.estimate(ticket, answer, blocks, now)
        return best

    def waits(self, ticket: Ticket, now: float) -> tuple[float, float]:
        """Seconds until the ticket would get a place if it came now, and without what its key has waiting there."""
        others, own = self.queue.ahead(ticket)
        trusted = [state for state in self.replicas if state.breaker.state is not BreakerState.OPEN]
        places = sum(state.slots or len(state.running) for state in trusted) or 1
        first = self._first(trusted, now)
        return first + self.pace * (others + own) / places, first + self.pace * others / places

    def _first(self, replicas: list[ReplicaState], now: float) -> float:
        """Seconds until the first of the requests ends that run there."""
        left = [self._left(ticket, now) for ticket in self._oldest(replicas)]
        # Lengths of answers vary as much as they are long on average: then the first of n that run ends n times sooner.
        return min(*left, sum(left) / len(left) ** 2) if left else 0.0

    def _oldest(self, replicas: list[ReplicaState]) -> Iterator[Ticket]:
        for state in replicas:
            yield from islice(state.running.values(), _LOOKED_AT)

    def _left(self, ticket: Ticket, now: float) -> float:
        ran = now - ticket.granted
        return max(self.pace * ticket.cost - ran, _OVERDUE * ran)

    def seconds_left(self, now: float) -> float | None:
        """Until it is loaded; None: not known."""
        state = self.state
        if isinstance(state, Unloaded):
            return state.seconds
        if not isinstance(state, Loading):
            return None
        if state.seconds_left is not None:
            return state.seconds_left
        if state.fraction is None or not 0.02 <= state.fraction <= 1:
            return None
        return (now - self.loading_since) * (1 - state.fraction) / state.fraction
