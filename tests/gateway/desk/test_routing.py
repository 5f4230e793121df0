"""Which replica has a request, and how long it is thought to take."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.values import Grant, Outcome, Replica
from gateway.desk.clocked import Clocked, answered, ready, replica


def blocks(name: str, count: int) -> tuple[bytes, ...]:
    return tuple(f"{name}{number}".encode() for number in range(count))


def desk(*replicas) -> Clocked:
    clocked = Clocked()
    clocked.serve(ready(*replicas))
    return clocked


def test_idle_equals_take_turns_also_with_one_request_at_a_time():
    clocked = desk(*(replica(f"r{n}") for n in range(3)))
    got: Counter[str] = Counter()
    for number in range(30):
        grant = clocked.arrive(prompt_tokens=2000, prefix=blocks(f"new{number}", 4))
        got[grant.replica.id] += 1
        clocked.now += 3
        clocked.settle(grant, answered(3.0, first_token=1.0, prompt_tokens=2000, output_tokens=40))
        clocked.now += 10
    assert set(got.values()) == {10}


def test_idle_ones_that_are_not_quite_equal_take_turns_too():
    clocked = desk(replica("r0", prefill_rate=1000, decode_rate=30), replica("r1", prefill_rate=1050, decode_rate=31))
    got = Counter()
    for _ in range(10):
        grant = clocked.arrive(prompt_tokens=2000)
        got[grant.replica.id] += 1
        clocked.now += 60
        clocked.settle(grant, Outcome(end="left"))
    assert set(got.values()) == {5}


def test_the_faster_one_has_it_until_its_backlog_is_worth_more():
    clocked = desk(replica("slow", prefill_rate=1000), replica("fast", prefill_rate=3000))
    got = [clocked.arrive(prompt_tokens=3000, output_tokens=1).replica.id for _ in range(8)]
    assert got == ["fast", "fast", "slow", "fast", "fast", "fast", "slow", "fast"]


def test_who_knows_the_prompt_has_it_while_that_pays_and_not_longer():
    clocked = desk(replica("r0", prefill_rate=1000), replica("r1", prefill_rate=1000))
    conversation = blocks("turn", 8)
    first = clocked.arrive(prompt_tokens=4000, prefix=conversation)
    home = first.replica.id
    clocked.settle(first)
    for _ in range(5):
        grant = clocked.arrive(prompt_tokens=4000, prefix=conversation)
        assert grant.replica.id == home
        clocked.settle(grant)


@pytest.mark.parametrize(("occupied", "stays"), [(1000, True), (20_000, False)])
def test_a_backlog_at_home_is_borne_while_it_is_shorter_than_what_the_prompt_saves(occupied, stays):
    clocked = desk(replica("r0", prefill_rate=1000), replica("r1", prefill_rate=1000))
    conversation = blocks("turn", 8)
    first = clocked.arrive(prompt_tokens=4000, prefix=conversation)
    home = first.replica.id
    clocked.settle(first)
    runs = [clocked.arrive(prompt_tokens=occupied) for _ in range(2)]  # one each
    assert {run.replica.id for run in runs} == {"r0", "r1"}
    clocked.settle(next(run for run in runs if run.replica.id != home))
    assert (clocked.arrive(prompt_tokens=4000, prefix=conversation).replica.id == home) == stays


def test_a_replica_whose_cache_does_not_hold_what_it_was_sent_is_believed_less():
    clocked = desk(replica("r0", prefill_rate=1000), replica("r1", prefill_rate=1000))
    prompt = blocks("a", 4)
    seen = Counter()
    for _ in range(60):
        grant = clocked.arrive(prompt_tokens=2000, prefix=prompt)
        seen[grant.replica.id] += 1
        clocked.now += 2.5
        clocked.settle(grant, answered(2.5, first_token=2.0, prompt_tokens=2000, cached_tokens=0, output_tokens=10))
        clocked.now += 1
    assert sorted(seen) == ["r0", "r1"]
    assert min(seen.values()) > 20


def test_slots_are_respected():
    clocked = desk(replica("r0", slots=2), replica("r1", slots=1))
    got = Counter(clocked.arrive().replica.id for _ in range(3))
    assert got == {"r0": 2, "r1": 1}
    assert not isinstance(clocked.arrive(), Grant)


def test_speeds_are_learned_from_answers_and_change_where_requests_go():
    clocked = desk(replica("r0"), replica("r1"))
    for _ in range(40):
        grant = clocked.arrive(prompt_tokens=2000)
        seconds = 0.5 if grant.replica.id == "r1" else 5.0
        clocked.now += seconds
        clocked.settle(
            grant, answered(seconds, first_token=seconds, prompt_tokens=2000, cached_tokens=0, output_tokens=1)
        )
    counts = clocked.desk.snapshot(clocked.now).replicas
    assert counts["r1"].prefill_rate == pytest.approx(4000, rel=0.2)
    assert counts["r0"].prefill_rate < 1000
    assert clocked.arrive(prompt_tokens=2000).replica.id == "r1"


def test_answers_without_streams_teach_too():
    clocked = desk(replica("r0"))
    for _ in range(40):
        grant = clocked.arrive(prompt_tokens=1000)
        clocked.now += 3
        clocked.settle(grant, answered(3.0, prompt_tokens=1000, cached_tokens=0, output_tokens=200))
    counts = clocked.desk.snapshot(clocked.now).replicas["r0"]
    expected = 1000 / counts.prefill_rate + 200 / counts.decode_rate
    assert expected == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("end", ["left", "cut", "broken", "unreachable"])
def test_what_did_not_end_well_teaches_no_speed(end):
    clocked = desk(replica("r0", prefill_rate=1000, decode_rate=30))
    before = clocked.desk.snapshot(clocked.now).replicas["r0"]
    grant = clocked.arrive(prompt_tokens=5000)
    clocked.settle(grant, Outcome(end=end, status=200, seconds=9, first_token=1, prompt_tokens=5000, output_tokens=500))
    after = clocked.desk.snapshot(clocked.now).replicas["r0"]
    assert (before.prefill_rate, before.decode_rate) == (after.prefill_rate, after.decode_rate)


@pytest.mark.parametrize("outcome", [Outcome(end="busy", status=503), Outcome(end="refused", status=500)])
def test_a_replica_that_fails_fast_does_not_look_idle(outcome):
    clocked = desk(replica("good", prefill_rate=1000), replica("bad", prefill_rate=1000))
    got = Counter()
    running = []
    for _ in range(50):
        grant = clocked.arrive(prompt_tokens=500)
        got[grant.replica.id] += 1
        if grant.replica.id == "bad":
            clocked.settle(grant, outcome)
        else:
            running.append(grant)
        clocked.now += 0.1
    assert got["bad"] <= 5


def test_one_failure_already_sends_the_next_request_elsewhere_for_a_while():
    clocked = desk(replica("fast", prefill_rate=2000), replica("slow", prefill_rate=1000))
    first = clocked.arrive(prompt_tokens=1000)
    assert first.replica.id == "fast"
    clocked.settle(first, Outcome(end="busy", status=503))
    second = clocked.arrive(prompt_tokens=1000)
    assert second.replica.id == "slow"
    clocked.settle(second, Outcome(end="left"))
    clocked.now += 2.1
    assert clocked.arrive(prompt_tokens=1000).replica.id == "fast"


def test_it_is_not_the_turn_of_one_that_just_failed():
    clocked = desk(replica("r0"), replica("r1"))
    clocked.settle(clocked.arrive(), Outcome(end="busy", status=503))
    clocked.settle(clocked.arrive(), Outcome(end="left"))
    assert clocked.arrive().replica.id == "r1"


def test_a_prompt_that_was_given_up_is_no_backlog():
    clocked = desk(replica("r0", prefill_rate=1000))
    clocked.arrive(prompt_tokens=1000)
    gone = clocked.arrive(prompt_tokens=60_000)
    assert clocked.desk.snapshot(clocked.now).replicas["r0"].backlog == pytest.approx(61)
    clocked.settle(gone, Outcome(end="left"))
    assert clocked.desk.snapshot(clocked.now).replicas["r0"].backlog == pytest.approx(1)


def test_what_a_replica_did_not_run_it_does_not_know():
    clocked = desk(replica("r0", prefill_rate=1000), replica("r1", prefill_rate=1000))
    grant = clocked.arrive(prompt_tokens=4000, prefix=blocks("a", 8))
    other = clocked.again(grant, "busy")
    counts = clocked.desk.snapshot(clocked.now).replicas
    assert counts[grant.replica.id].prefixes == 0
    assert counts[other.replica.id].prefixes > 0


def test_a_replica_that_comes_back_with_the_same_name_keeps_its_speed_but_not_its_cache():
    clocked = desk(replica("r0"), replica("r1"))
    prompt = blocks("a", 4)
    for _ in range(20):
        grant = clocked.arrive(prompt_tokens=2000)
        clocked.now += 1
        clocked.settle(grant, answered(1.0, first_token=0.1, prompt_tokens=2000, output_tokens=1))
    learned = clocked.desk.snapshot(clocked.now).replicas["r0"].prefill_rate
    clocked.arrive(prompt_tokens=2000, prefix=prompt)
    clocked.serve(ready())
    clocked.serve(ready(replica("r1")))
    clocked.serve(ready(replica("r0"), replica("r1")))
    counts = clocked.desk.snapshot(clocked.now).replicas
    clocked.serve(ready(replica("r0")))
    clocked.arrive(prompt_tokens=2000, prefix=prompt)
    assert clocked.desk.snapshot(clocked.now).replicas["r0"].prefixes == 4
    clocked.serve(ready(Replica(id="r0", base_url="http://elsewhere", served_name="m")))
    assert clocked.desk.snapshot(clocked.now).replicas["r0"].prefixes == 0
    assert counts["r0"].prefill_rate == learned > 2000
    assert counts["r0"].prefixes == 0


def test_embeddings_are_no_streams_of_tokens():
    clocked = Clocked()
    clocked.serve(ready(replica(embeddings=True)), embeddings=True)
    grant = clocked.arrive(route="/v1/embeddings", prompt_tokens=2000)
    clocked.now += 0.5
    clocked.settle(grant, answered(0.5, prompt_tokens=2000))
    counts = clocked.desk.snapshot(clocked.now).replicas["r0"]
    assert (counts.prefill_rate, counts.decode_rate) == (pytest.approx(4000), pytest.approx(20))


FLEETS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0.0, 500.0, 1000.0, 1050.0, 8000.0]), st.integers(0, 3)),
    min_size=1,
    max_size=5,
)


@given(FLEETS, st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 3), st.integers(0, 6)), max_size=40))
def test_the_choice_is_free_and_about_the_best(fleet, requests):
    clocked = Clocked()
    clocked.serve(
        ready(*(replica(f"r{n}", slots=slots, prefill_rate=rate) for n, (slots, rate, _) in enumerate(fleet)))
    )
    model = clocked.desk._names.models["m"]
    running = []
    for tokens, shared, gap in requests:
        clocked.now += gap
        free = {state.replica.id: state for state in model.replicas if state.free()}
        prefix = blocks("a", shared)
        answer = clocked.arrive(prompt_tokens=tokens, prefix=prefix, output_tokens=1)
        if not isinstance(answer, Grant):
            clocked.desk.leave(answer, clocked.now)
            if running:
                clocked.settle(running.pop(0), Outcome(end="left"))
            continue
        running.append(answer)
        assert answer.replica.id in free
        ticket = clocked.desk._places._running[answer.number]
        took = ticket.backlog + ticket.prefill + ticket.decode
        del free[answer.replica.id]
        for state in free.values():
            known = min(state.prefixes.known(prefix), len(prefix))
            seconds = state.estimate(ticket, 1.0, known, clocked.now)
            assert took <= 1.1 * seconds + 1e-6
        assert (
            state_of(model, answer).slots == 0 or len(state_of(model, answer).running) <= state_of(model, answer).slots
        )


def state_of(model, grant):
    return next(state for state in model.replicas if state.replica.id == grant.replica.id)
