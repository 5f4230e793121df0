"""Replicas that fail: another has the request, a fallback, or it waits for them to be back."""

from math import inf

import pytest

from corral.gateway.desk.serving import Failed, Loading, Unloaded
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Grant, KeyLimits, Outcome
from corral.gateway.errors import ApiError
from gateway.desk.clocked import Clocked, answered, ready, replica

CUT = Outcome(end="cut", status=200, seconds=3, first_token=1)


def desk(*replicas) -> Clocked:
    clocked = Clocked()
    clocked.serve(ready(*replicas))
    return clocked


def states(clocked: Clocked) -> dict[str, str]:
    return {name: counts.breaker for name, counts in clocked.desk.snapshot(clocked.now).replicas.items()}


def open_all(clocked: Clocked, *, model: str = "m") -> None:
    grants = [clocked.arrive(model=model) for _ in range(3 * len(states(clocked)))]
    for grant in grants:
        clocked.settle(grant, CUT)


def recover(clocked: Clocked) -> None:
    clocked.now = clocked.desk.next_due()
    [probe] = clocked.desk.probes(clocked.now)
    clocked.desk.probed(probe.id, ok=True, now=clocked.now)


def test_what_did_not_run_goes_to_each_replica_once():
    clocked = desk(*(replica(f"r{n}") for n in range(4)))
    grant = clocked.arrive()
    seen = [grant.replica.id]
    while (grant := clocked.again(grant)) is not None:
        seen.append(grant.replica.id)
    assert sorted(seen) == ["r0", "r1", "r2", "r3"]
    assert clocked.desk.snapshot(clocked.now).models["m"].running == 0


def test_another_attempt_waits_where_the_others_are_full_and_goes_before_its_keys_other_requests():
    clocked = desk(replica("r0", slots=1), replica("r1", slots=1))
    first, second = clocked.arrive(), clocked.arrive()
    clocked.arrive()
    ticket = clocked.again(first)
    assert isinstance(ticket, Ticket)
    assert [grant.replica.id for told, grant in clocked.due() if told is not ticket] == [first.replica.id]
    clocked.settle(second)
    [(told, grant)] = clocked.due()
    assert told is ticket
    assert grant.replica.id == second.replica.id


def test_another_attempt_goes_before_what_its_key_sent_later():
    clocked = desk(replica("r0", slots=1), replica("r1", slots=1))
    first, second = clocked.arrive(), clocked.arrive()
    later = clocked.arrive()
    again = clocked.again(first)
    clocked.serve(ready(replica(second.replica.id, slots=1)))
    for ticket in (again, later):
        clocked.settle(second)
        [(told, second)] = clocked.due()
        assert told is ticket


def test_no_attempt_waits_for_a_replica_that_was_tried():
    clocked = desk(replica())
    grants = [clocked.arrive() for _ in range(3)]
    for grant in grants[:2]:
        clocked.settle(grant, CUT)
    assert clocked.again(grants[2]) is None
    assert states(clocked) == {"r0": "open"}
    assert clocked.desk.snapshot(clocked.now).models["m"].waiting == 0


def test_a_grant_that_is_over_is_not_repeated():
    clocked = desk(replica("r0"), replica("r1"))
    grant = clocked.arrive()
    clocked.settle(grant)
    assert clocked.again(grant) is None


@pytest.mark.parametrize(
    "outcome",
    [
        CUT,
        Outcome(end="broken"),
        Outcome(end="unreachable"),
        Outcome(end="busy", status=429),
        Outcome(end="refused", status=500),
    ],
)
def test_each_failure_counts(outcome):
    clocked = desk(replica())
    for _ in range(3):
        clocked.settle(clocked.arrive(), outcome)
    assert states(clocked) == {"r0": "open"}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(end="left", status=200, seconds=3, first_token=1),
        Outcome(end="stopped"),
        Outcome(end="refused", status=400),
        Outcome(end="refused", status=501),
    ],
)
def test_what_is_no_fault_of_the_replica_does_not_count(outcome):
    clocked = desk(replica())
    for _ in range(50):
        clocked.settle(clocked.arrive(), outcome)
    assert states(clocked) == {"r0": "closed"}


def test_an_open_one_has_no_requests_while_another_answers():
    clocked = desk(replica("r0"), replica("r1"))
    for _ in range(20):
        grant = clocked.arrive()
        clocked.settle(grant, CUT if grant.replica.id == "r0" else answered())
        clocked.now += 10
    assert states(clocked) == {"r0": "open", "r1": "closed"}
    assert {clocked.arrive().replica.id for _ in range(50)} == {"r1"}


def test_comes_back_through_a_probe_and_then_one_request_at_a_time():
    clocked = desk(replica())
    open_all(clocked)
    waiting = [clocked.arrive() for _ in range(10)]
    assert all(isinstance(ticket, Ticket) for ticket in waiting)
    assert clocked.due() == []
    recover(clocked)
    assert states(clocked) == {"r0": "half-open"}
    for trial in range(3):
        [(told, grant)] = clocked.due()
        assert told is waiting[trial]
        clocked.settle(grant)
    assert states(clocked) == {"r0": "closed"}
    assert len(clocked.due()) == 7


def test_a_trial_whose_client_leaves_lets_the_next_one_try():
    clocked = desk(replica())
    open_all(clocked)
    clocked.arrive()
    clocked.arrive()
    recover(clocked)
    [(_, grant)] = clocked.due()
    clocked.settle(grant, Outcome(end="left"))
    assert len(clocked.due()) == 1
    assert states(clocked) == {"r0": "half-open"}


def test_what_began_before_the_incident_says_nothing_about_the_recovery():
    clocked = desk(replica())
    old = [clocked.arrive() for _ in range(10)]
    for grant in old[:3]:
        clocked.settle(grant, CUT)
    recover(clocked)
    for grant in old[3:6]:
        clocked.settle(grant, CUT)
    assert states(clocked) == {"r0": "half-open"}
    for grant in old[6:]:
        clocked.settle(grant)
    assert states(clocked) == {"r0": "half-open"}


def test_who_has_no_time_to_wait_for_the_probe_is_told_when_it_is():
    clocked = desk(replica())
    open_all(clocked)
    with pytest.raises(ApiError) as raised:
        clocked.arrive(patience=0.1)
    assert (raised.value.status, raised.value.code) == (503, "engine_failing")
    assert dict(raised.value.headers)[b"retry-after"] == b"1"


def test_a_blip_of_the_only_replica_costs_waiting_clients_no_error():
    clocked = desk(replica(slots=4))
    open_all(clocked)
    back = clocked.now + 3.0
    tickets, told = [clocked.arrive() for _ in range(5)], []
    while len(told) < 5:
        clocked.now = max(clocked.now, clocked.desk.next_due())
        for probe in clocked.desk.probes(clocked.now):
            clocked.desk.probed(probe.id, ok=clocked.now >= back, now=clocked.now)
        for ticket, grant in clocked.due():
            told.append(ticket)
            clocked.settle(grant)
    assert told == tickets
    assert clocked.now <= back + 1.0


def test_a_failed_replica_that_is_not_alone_is_probed_less_and_less_until_the_others_fail_too():
    clocked = desk(replica("r0"), replica("r1"))
    for _ in range(30):
        grant = clocked.arrive()
        clocked.settle(grant, CUT if grant.replica.id == "r0" else answered())
        clocked.now += 10
        for probe in clocked.desk.probes(clocked.now):
            clocked.desk.probed(probe.id, ok=False, now=clocked.now)
    assert clocked.desk.next_due() - clocked.now > 5
    for _ in range(3):
        clocked.settle(clocked.arrive(), CUT)
    clocked.now += 1.0
    assert {probe.id for probe in clocked.desk.probes(clocked.now)} == {"r0", "r1"}


# Fallbacks.


@pytest.mark.parametrize(
    "state", [Failed("gone."), Unloaded("it does not fit."), ready(), Loading("weights", None, 1e6)]
)
def test_a_fallback_answers_where_the_model_cannot(state):
    clocked = Clocked()
    clocked.serve(ready(replica("b0")), name="b", aliases=("small",))
    clocked.serve(state, fallbacks=("nothing", "small"))
    if state == ready():
        for _ in range(3):
            clocked.settle(clocked.arrive(), CUT)
    assert clocked.arrive().model == "b"


def test_a_fallback_answers_where_the_wait_is_too_long():
    clocked = Clocked()
    clocked.serve(ready(replica(slots=1)), fallbacks=("b",))
    clocked.serve(ready(replica("b0", slots=1)), name="b")
    clocked.arrive(prompt_tokens=100_000)
    assert clocked.arrive(patience=5.0).model == "b"
    assert isinstance(clocked.arrive(patience=200.0, output_tokens=1), Ticket)


def test_who_waits_goes_to_the_fallback_when_the_model_fails_or_the_wait_is_over():
    clocked = Clocked()
    clocked.serve(Loading("weights"), fallbacks=("b",))
    clocked.serve(ready(replica("b0")), name="b")
    first = clocked.arrive(patience=10.0)
    second = clocked.arrive(patience=100.0)
    assert isinstance(first, Ticket)
    clocked.now += 10
    [(told, grant)] = clocked.due()
    assert (told, grant.model) == (first, "b")
    clocked.serve(Failed("no memory."), fallbacks=("b",))
    [(told, grant)] = clocked.due()
    assert (told, grant.model) == (second, "b")


def test_another_attempt_may_be_a_fallbacks():
    clocked = Clocked()
    clocked.serve(ready(replica("r0")), fallbacks=("b",))
    clocked.serve(ready(replica("b0")), name="b")
    assert clocked.again(clocked.arrive()).model == "b"


def test_cycles_of_fallbacks_end():
    clocked = Clocked()
    for name, others in {"a": ("b", "a"), "b": ("c", "a"), "c": ("a", "b")}.items():
        clocked.serve(Failed(f"{name} is gone."), name=name, fallbacks=others)
    with pytest.raises(ApiError, match="b is gone"):
        clocked.arrive(model="b")
    clocked.serve(ready(), name="c", fallbacks=("a",))
    assert clocked.arrive(model="a").model == "c"


def test_a_key_may_not_reach_a_model_by_fallback_that_it_may_not_use():
    clocked = Clocked()
    clocked.serve(Failed("gone."), fallbacks=("b", "c"))
    clocked.serve(ready(replica("b0")), name="b")
    clocked.serve(ready(replica("c0")), name="c")
    clocked.keys(KeyLimits(id="k", models=("m", "c")), KeyLimits(id="only", models=("m",)))
    assert clocked.arrive(key="k").model == "c"
    with pytest.raises(ApiError, match="gone"):
        clocked.arrive(key="only")


def test_a_fallback_is_of_the_same_kind():
    clocked = Clocked()
    clocked.serve(Failed("gone."), fallbacks=("e",))
    clocked.serve(ready(replica("e0", embeddings=True)), name="e", embeddings=True)
    with pytest.raises(ApiError, match="gone"):
        clocked.arrive()


def test_without_a_usable_fallback_it_waits_for_the_model_itself():
    clocked = Clocked()
    clocked.serve(ready(), fallbacks=("b",))
    clocked.serve(Failed("gone."), name="b")
    open_all(clocked)
    assert isinstance(clocked.arrive(), Ticket)
    assert clocked.desk.next_due() < inf


def test_a_grant_is_a_grant_after_its_model_is_gone():
    clocked = desk(replica())
    grant = clocked.arrive()
    assert isinstance(grant, Grant)
    clocked.desk.withdraw("m")
    clocked.settle(grant)
    assert clocked.due() == []
