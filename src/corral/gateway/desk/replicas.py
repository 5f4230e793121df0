"""One replica as the desk sees it: what runs there, how fast it is, what it remembers, whether it is trusted.

Knows no other replica and no queue. Engines read prompts one after the other, as good as, and write all answers at the
same time: so what is left to read is one moment (`busy_until`), and what is written is a number of streams.
"""

from corral.gateway.desk.breaker import Breaker, Event, State
from corral.gateway.desk.prefixes import Prefixes
from corral.gateway.desk.rates import Rates
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Outcome, Replica
from corral.gateway.routes import EMBEDDINGS, GENERATING

_DID_NOT_RUN = frozenset(("unreachable", "busy"))
_FAILED = frozenset(("unreachable", "busy", "broken", "cut"))
_NOT_SUPPORTED = 501  # llama.cpp says so about a route: that is no fault of the replica
_TRUST_STEP = 0.2
_LONGEST_SHUN = 15  # failures that add to the backlog at most


class ReplicaState:
    """One replica. Seconds and tokens."""

    __slots__ = (
        "_failure_seconds",
        "breaker",
        "busy_until",
        "failures",
        "last_grant",
        "prefixes",
        "rates",
        "replica",
        "running",
        "shunned_until",
        "slots",
        "trust",
    )

    def __init__(self, replica: Replica, settings: DeskSettings, rates: Rates) -> None:
        self._failure_seconds = settings.failure_seconds
        self.replica = replica
        self.slots = replica.slots
        self.rates = rates
        self.prefixes = Prefixes(settings.prefix_entries)
        self.breaker = Breaker(settings)
        self.running: dict[int, Ticket] = {}
        self.busy_until = 0.0  # when the prompts that were sent there are read
        self.shunned_until = 0.0  # what failures add to that
        self.failures = 0  # since the last answer
        self.last_grant = 0  # a grant's number
        self.trust = 1.0  # how much of what should be cached is

    def free(self) -> bool:
        """Whether one more request may go there."""
        state = self.breaker.state
        if state is State.CLOSED:
            return not self.slots or len(self.running) < self.slots
        return state is State.HALF_OPEN and not self.breaker.trial

    def full(self) -> bool:
        """Whether nothing but its slots keeps a request away."""
        return 0 < self.slots <= len(self.running) and self.breaker.state is State.CLOSED

    def estimate(self, ticket: Ticket, output: float, known: int, now: float) -> float:
        """Seconds until this one would be answered here, where so many blocks of its prompt are known.

        The ticket notes how they come about.
        """
        ask = ticket.ask
        rates = self.rates
        tokens = float(ask.prompt_tokens)
        ticket.blocks = known
        ticket.known = 0.0
        if known:
            # The prompt goes on behind its last whole block: by half a block on average.
            ticket.known = tokens * known / (len(ask.prefix) + 0.5)
            tokens -= self.trust * ticket.known
        streams = len(self.running) + 1
        ticket.streams = streams
        ticket.prefill = prefill = tokens / rates.prefill
        ticket.decode = decode = output * (rates.alone + rates.each * (streams - 1))
        left = self.busy_until - now
        ticket.backlog = backlog = left if left > 0 else 0.0
        if self.shunned_until > now:
            backlog += self.shunned_until - now
        return backlog + prefill + decode

    def begin(self, ticket: Ticket, number: int, now: float) -> None:
        """A request goes there, as estimated."""
        self.running[number] = ticket
        self.last_grant = number
        self.busy_until = max(self.busy_until, now) + ticket.prefill
        ticket.replica = self
        ticket.granted = now
        ticket.cost = ticket.prefill + ticket.decode
        ticket.trial = self.breaker.state is State.HALF_OPEN
        if ticket.trial:
            self.breaker.trial = True
        if prefix := ticket.ask.prefix:
            self.prefixes.add(prefix, ticket.blocks)

    def end(self, ticket: Ticket, number: int, outcome: Outcome, now: float) -> Event | None:
        """A request left it; what that says about the replica, if anything."""
        self.running.pop(number, None)
        read = outcome.first_token is not None or outcome.end == "answered"
        if not self.running:
            self.busy_until = now
        elif not read:
            self.busy_until = max(now, self.busy_until - ticket.prefill)
        if outcome.end in _DID_NOT_RUN and ticket.ask.prefix:
            self.prefixes.forget(ticket.ask.prefix, 0)
        if outcome.end == "answered":
            self._learn(ticket, outcome)
        event = self._event(outcome, now)
        if ticket.trial:
            self.breaker.trial = False
        elif self.breaker.state is State.HALF_OPEN or (event is Event.WORKED and self.breaker.spotless):
            return None  # it began before the incident, or changes nothing
        return event

    def _event(self, outcome: Outcome, now: float) -> Event | None:
        """What an outcome says about the replica. A client that left, or a gateway that stops, says nothing."""
        end = outcome.end
        if end in _FAILED or (end == "refused" and outcome.status >= 500 and outcome.status != _NOT_SUPPORTED):
            self.failures += 1
            self.shunned_until = now + self._failure_seconds * min(self.failures, _LONGEST_SHUN)
            return Event.FAILED
        if end in {"answered", "refused"}:
            self.failures = 0
            self.shunned_until = 0.0
            return Event.WORKED
        return None

    def _learn(self, ticket: Ticket, outcome: Outcome) -> None:
        """Take the speeds from an answer."""
        prompt = ticket.ask.prompt_tokens if outcome.prompt_tokens is None else outcome.prompt_tokens
        cached = outcome.cached_tokens
        if cached is None:
            cached = self.trust * ticket.known
        elif ticket.known:
            self.trust += _TRUST_STEP * (min(1.0, cached / ticket.known) - self.trust)
        rates = self.rates
        first = outcome.first_token
        route = ticket.ask.route
        wrote = outcome.output_tokens if route in GENERATING else 0
        if first is None:
            if route == EMBEDDINGS or not wrote:
                first = outcome.seconds
            else:  # only the sum is known: it is shared out as it was expected
                expected = ticket.backlog + ticket.prefill + wrote * rates.tpot(ticket.streams)
                first = outcome.seconds * (ticket.backlog + ticket.prefill) / expected
        rates.learn_prefill(prompt - cached, min(ticket.backlog, first) * rates.prefill, first)
        if wrote:
            streams = (ticket.streams + len(self.running) + 1) / 2
            rates.learn_decode(wrote - 1, outcome.seconds - first, streams)
