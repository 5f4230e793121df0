"""The whole desk under any sequence of events: nothing leaks, nothing is lost, nobody is served twice or starves."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.serving import Failed, Loading, Ready, ServedModel, Unloaded
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Ask, Grant, KeyLimits, Outcome
from corral.gateway.errors import ApiError
from gateway.desk.clocked import MIDNIGHT, replica

QUEUE = 6
MODELS = ("a", "b", "c")
KEYS = (
    KeyLimits(id="free"),
    KeyLimits(id="high", priority=3),
    KeyLimits(id="few", requests_per_minute=20, tokens_per_minute=20_000, concurrent=4, tokens_per_day=500_000),
    KeyLimits(id="only", models=("a", "small")),
)
REPLICAS = {
    "a": (replica("a0", slots=2), replica("a1", slots=1, prefill_rate=500)),
    "b": (replica("b0", slots=1),),
    "c": (replica("c0"), replica("c1", slots=3), replica("c2", slots=1)),
}
FALLBACKS = {"a": ("b", "gone"), "b": ("c", "a"), "c": ()}
ENDS = ("answered", "answered", "answered", "refused", "left", "unreachable", "busy", "broken", "cut")
OUTCOMES = st.builds(
    Outcome,
    end=st.sampled_from(ENDS),
    status=st.sampled_from([0, 200, 400, 429, 500, 503]),
    seconds=st.floats(0, 100),
    first_token=st.none() | st.floats(0, 50),
    prompt_tokens=st.none() | st.integers(0, 10_000),
    cached_tokens=st.none() | st.integers(0, 10_000),
    output_tokens=st.none() | st.integers(0, 5_000),
)
STATES = st.sampled_from(["ready", "ready", "ready", "fewer", "loading", "unloaded", "cannot", "failed"])


class AnyDay(RuleBasedStateMachine):
    """Clients, engines and the launcher do as they like; the model here only keeps books."""

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(DeskSettings(queue_limit=QUEUE, longest_wait=60.0, longest_load=90.0, prefix_entries=16))
        self.now = 5000.0
        self.open_tickets: set[Ticket] = set()
        self.open_grants: dict[int, Grant] = {}
        self.desk.set_keys({key.id: key for key in KEYS})
        for name in MODELS:
            self._serve(name, "ready")

    def _serve(self, name: str, kind: str) -> None:
        state = {
            "ready": Ready(REPLICAS[name]),
            "fewer": Ready(REPLICAS[name][:1]),
            "loading": Loading("weights", 0.5, 40.0),
            "unloaded": Unloaded(),
            "cannot": Unloaded("it does not fit."),
            "failed": Failed("it broke."),
        }[kind]
        aliases = ("small",) if name == "b" else ()
        self.desk.serve(ServedModel(name=name, state=state, aliases=aliases, fallbacks=FALLBACKS[name]), self.now)

    def _took(self, answer):
        if isinstance(answer, Grant):
            assert answer.number not in self.open_grants
            self.open_grants[answer.number] = answer
        elif isinstance(answer, Ticket):
            assert answer not in self.open_tickets
            self.open_tickets.add(answer)
        return answer

    @rule(
        model=st.sampled_from([*MODELS, "small", "nothing", None]),
        key=st.sampled_from([key.id for key in KEYS]),
        tokens=st.integers(0, 30_000),
        most=st.integers(0, 2000),
        prompt=st.lists(st.integers(0, 2), max_size=4),
        patience=st.none() | st.floats(0, 100),
    )
    def arrive(self, model, key, tokens, most, prompt, patience):
        prefix = tuple(bytes(prompt[: at + 1]) for at in range(len(prompt)))
        ask = Ask(
            request_id="x", route="/v1/chat/completions", model=model, key=key, prompt_tokens=tokens,
            output_tokens=most, prefix=prefix, patience=patience,
        )  # fmt: skip
        try:
            answer = self._took(self.desk.arrive(ask, self.now, MIDNIGHT + self.now))
        except ApiError as error:
            self.refused(error)
            self.no_place_was_free(error, model)
            return
        if isinstance(answer, Grant):
            assert key != "only" or answer.model in {"a", "b"}
            assert answer.replica in REPLICAS[answer.model]

    def no_place_was_free(self, error, name):
        """Nobody is told that the server is busy while a replica has nothing to do."""
        model = self.desk._names.find(name or "")
        if error.code == "server_busy" and model is not None and not self.desk._places._changed:
            assert not model.free() or model.queue.count > model.queue.choosy

    def refused(self, error):
        assert error.status in {400, 401, 403, 404, 429, 502, 503}
        headers = dict(error.headers)
        assert error.status not in {429, 503} or int(headers.get(b"retry-after", b"1")) >= 1

    @precondition(lambda self: self.open_grants)
    @rule(pick=st.integers(0, 100), outcome=OUTCOMES)
    def settle(self, pick, outcome):
        number = sorted(self.open_grants)[pick % len(self.open_grants)]
        del self.open_grants[number]
        self.desk.settle(number, outcome, self.now)
        self.desk.settle(number, outcome, self.now)

    @precondition(lambda self: self.open_grants)
    @rule(pick=st.integers(0, 100), end=st.sampled_from(["unreachable", "busy", "broken"]))
    def again(self, pick, end):
        number = sorted(self.open_grants)[pick % len(self.open_grants)]
        tried = self.open_grants.pop(number).replica.id
        answer = self._took(self.desk.again(number, Outcome(end=end), self.now))
        assert not isinstance(answer, Grant) or answer.replica.id != tried

    @precondition(lambda self: self.open_tickets)
    @rule(pick=st.integers(0, 100))
    def leave(self, pick):
        ticket = sorted(self.open_tickets, key=lambda each: each.number)[pick % len(self.open_tickets)]
        self.open_tickets.remove(ticket)
        self.desk.leave(ticket, self.now)
        self.desk.leave(ticket, self.now)

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(name=st.sampled_from(MODELS), kind=STATES)
    def serve(self, name, kind):
        self._serve(name, kind)

    @rule(name=st.sampled_from(MODELS))
    def withdraw(self, name):
        self.desk.withdraw(name)

    @rule(keys=st.sets(st.sampled_from(KEYS)))
    def set_keys(self, keys):
        self.desk.set_keys({key.id: key for key in keys})

    @rule(ok=st.booleans())
    def probe(self, ok):
        for wanted in self.desk.probes(self.now):
            self.desk.probed(wanted.id, ok=ok, now=self.now)

    @rule()
    def due(self):
        for ticket, answer in self.desk.due(self.now):
            assert ticket in self.open_tickets
            self.open_tickets.remove(ticket)
            if isinstance(answer, Grant):
                self._took(answer)
                assert answer.replica.id not in ticket.tried
                assert ticket.ask.key != "only" or answer.model in {"a", "b"}
        assert all(ticket.deadline > self.now for ticket in self.open_tickets)

    @invariant()
    def books_agree(self):
        places = self.desk._places
        undecided = {answer.number for _, answer in places._decided if isinstance(answer, Grant)}
        assert set(places._running) == set(self.open_grants) | undecided
        told = {ticket for ticket, _ in places._decided}
        assert set(places._waiting.tickets.values()) | told == self.open_tickets
        queued = [ticket for model in self.desk._names.models.values() for ticket in model.queue]
        leaving = [ticket for model in places._changed.values() for ticket in model.queue if ticket not in queued]
        assert sorted(t.number for t in (*queued, *leaving)) == sorted(places._waiting.tickets)

    @invariant()
    def who_waits_by_choice_is_counted(self):
        for model in self.desk._names.models.values():
            assert model.queue.choosy == sum(ticket.choosy for ticket in model.queue)

    @invariant()
    def no_replica_has_more_than_its_slots(self):
        for model in self.desk._names.models.values():
            for state in model.replicas:
                assert not state.slots or len(state.running) <= state.slots
                assert state.breaker.trial <= len(state.running)

    @invariant()
    def keys_are_charged_for_what_lives_and_nothing_else(self):
        tickets = {*self.desk._places._running.values(), *self.desk._places._waiting.tickets.values()}
        for key, account in self.desk._accounts.items():
            live = {ticket for ticket in tickets if ticket.account is account}
            assert set(account.live.values()) == live, key
            assert account.requests is None or account.requests.used <= 20 or key != "few"

    @invariant()
    def memory_is_bounded(self):
        places = self.desk._places
        assert len(places._waiting._heap) <= 2 * len(places._waiting.tickets) + 66
        for model in self.desk._names.models.values():
            assert model.queue.count <= QUEUE + len(self.open_grants) + QUEUE * len(MODELS)
            for state in model.replicas:
                assert len(state.prefixes) <= 16

    def teardown(self):
        """In the end everybody who waits is answered, and nothing is left."""
        self.desk.set_keys({key.id: key for key in KEYS})
        for name in MODELS:
            self._serve(name, "ready")
        for _ in range(1000):
            for number in list(self.open_grants):
                self.desk.settle(number, Outcome(end="answered", status=200, seconds=1.0), self.now)
                del self.open_grants[number]
            self.probe(ok=True)
            self.due()
            if not self.open_tickets and not self.open_grants:
                break
            self.now += 0.5
        assert not self.open_tickets
        snapshot = self.desk.snapshot(self.now)
        assert all((counts.waiting, counts.running) == (0, 0) for counts in snapshot.models.values())
        assert all(counts.running == 0 for counts in snapshot.replicas.values())
        assert all(not account.live for account in self.desk._accounts.values())


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(stateful_step_count=60)
