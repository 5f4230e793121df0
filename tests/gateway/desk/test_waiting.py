"""Who waits at the desk: for how long, in which order, and how it ends."""

from math import inf

import pytest

from corral.gateway.desk.serving import Failed, Loading, Ready, Unloaded
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Grant, KeyLimits
from corral.gateway.errors import ApiError
from gateway.desk.clocked import Clocked, answered, ready, replica

ONE = ready(replica(slots=1))


def desk(state=ONE, **settings) -> Clocked:
    clocked = Clocked(DeskSettings(**settings))
    clocked.serve(state)
    return clocked


def retry_after(error: ApiError) -> int:
    return int(dict(error.headers)[b"retry-after"])


def refusal(clocked: Clocked, **fields) -> ApiError:
    with pytest.raises(ApiError) as raised:
        clocked.arrive(**fields)
    return raised.value


def test_waits_for_a_place_and_has_it_when_one_is_free():
    clocked = desk()
    first = clocked.arrive()
    ticket = clocked.arrive()
    assert isinstance(ticket, Ticket)
    assert ticket.progress is None
    assert clocked.due() == []
    clocked.now += 2
    clocked.settle(first)
    assert clocked.desk.next_due() <= clocked.now
    [(told, grant)] = clocked.due()
    assert told is ticket
    assert (grant.model, grant.waited) == ("m", 2)
    assert clocked.due() == []


def test_nobody_who_comes_later_overtakes():
    clocked = desk()
    first = clocked.arrive()
    ticket = clocked.arrive()
    clocked.settle(first)
    late = clocked.arrive()
    assert isinstance(late, Ticket)
    assert [told for told, _ in clocked.due()] == [ticket]


def test_who_leaves_is_forgotten_and_frees_nothing_that_is_not_its_own():
    clocked = desk()
    first = clocked.arrive()
    gone, stays = clocked.arrive(), clocked.arrive()
    clocked.desk.leave(gone, clocked.now)
    clocked.desk.leave(gone, clocked.now)
    clocked.settle(first)
    assert [told for told, _ in clocked.due()] == [stays]


def test_who_leaves_between_decision_and_word_gives_its_place_back():
    clocked = desk()
    ticket, other = (clocked.arrive(), clocked.arrive(), clocked.arrive())[1:]
    clocked.desk.settle(1 + 1, answered(), clocked.now)
    clocked.desk._places._go_on(ticket.model, clocked.now)
    clocked.desk.leave(ticket, clocked.now)
    assert [told for told, _ in clocked.due()] == [other]


def test_a_wait_that_would_be_too_long_is_told_at_once_and_honestly():
    clocked = desk()
    for _ in range(40):  # learns that a request takes 10 s
        grant = clocked.arrive(prompt_tokens=1000)
        clocked.now += 10
        clocked.settle(grant, answered(10.0, first_token=2.0, prompt_tokens=1000, cached_tokens=0, output_tokens=100))
    clocked.arrive(prompt_tokens=1000)
    assert clocked.arrive(prompt_tokens=1000, patience=30.0).expected == pytest.approx(10, abs=1.5)
    assert clocked.arrive(prompt_tokens=1000, patience=30.0).expected == pytest.approx(20, abs=3)
    error = refusal(clocked, prompt_tokens=1000, patience=25.0)
    assert (error.status, error.code) == (503, "server_busy")
    assert retry_after(error) == pytest.approx(30, abs=3)
    assert "may wait 25 s" in error.message
    clocked.now += 9
    assert retry_after(refusal(clocked, prompt_tokens=1000, patience=5.0)) == pytest.approx(21, abs=3)


def test_an_engine_that_is_slower_than_its_speeds_say_is_expected_to_be():
    clocked = desk()
    for _ in range(100):  # so short that they teach no speed
        grant = clocked.arrive(prompt_tokens=100, output_tokens=5)
        clocked.now += 10
        clocked.settle(grant, answered(10.0, first_token=9.0, prompt_tokens=100, output_tokens=5))
    clocked.arrive(prompt_tokens=100, output_tokens=5)
    waits = [clocked.arrive(prompt_tokens=100, output_tokens=5).expected for _ in range(3)]
    assert waits == pytest.approx([10, 20, 30], rel=0.1)


def test_without_patience_it_goes_on_at_once_or_not_at_all():
    clocked = desk()
    assert isinstance(clocked.arrive(patience=0.0), Grant)
    assert refusal(clocked, patience=0.0).code == "server_busy"


def test_when_patience_ends_so_does_the_wait():
    clocked = desk()
    clocked.arrive(output_tokens=1)
    ticket = clocked.arrive(patience=20.0)
    assert clocked.desk.next_due() == clocked.now + 20
    clocked.now += 20
    [(told, error)] = clocked.due()
    assert told is ticket
    assert (error.status, error.code) == (503, "server_busy")
    assert retry_after(error) >= 1
    assert clocked.desk.next_due() == inf
    assert clocked.desk.snapshot(clocked.now).models["m"].waiting == 0


def test_a_key_whose_own_requests_make_the_wait_is_told_so_and_another_waits():
    clocked = desk()
    clocked.keys(KeyLimits(id="greedy"), KeyLimits(id="modest"))
    for _ in range(7):  # one runs, six wait: 120 s of work, at 5 s a prompt and 12.8 s an answer
        clocked.arrive(key="greedy", prompt_tokens=5000)
    error = refusal(clocked, key="greedy", prompt_tokens=5000)
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert isinstance(clocked.arrive(key="modest", prompt_tokens=500), Ticket)


def test_a_greedy_key_delays_anothers_single_request_by_one_of_its_own():
    clocked = desk(longest_wait=1e6)
    clocked.keys(KeyLimits(id="greedy"), KeyLimits(id="modest"))
    grant = clocked.arrive(key="greedy")
    for _ in range(100):
        clocked.arrive(key="greedy")
    modest = clocked.arrive(key="modest")
    passed = 0
    while True:
        clocked.now += 5
        clocked.settle(grant, answered(5.0, output_tokens=100))
        [(told, grant)] = clocked.due()
        if told is modest:
            break
        passed += 1
    assert passed <= 1


def test_keys_whose_answers_get_longer_than_expected_have_fewer_of_them():
    clocked = desk(longest_wait=1e6)
    clocked.keys(KeyLimits(id="long"), KeyLimits(id="short"))
    grant = clocked.arrive(key="long")
    lengths = {grant.number: 1000}
    tickets = {clocked.arrive(key=key): 1000 if key == "long" else 100 for _ in range(60) for key in ("long", "short")}
    got = {1000: 0, 100: 0}
    for _ in range(60):
        clocked.settle(grant, answered(1.0, output_tokens=lengths[grant.number]))
        [(told, grant)] = clocked.due()
        lengths[grant.number] = tickets[told]
        got[tickets[told]] += 1
    assert got[100] > 4 * got[1000]


def test_a_higher_priority_goes_first():
    clocked = desk()
    clocked.keys(KeyLimits(id="low"), KeyLimits(id="high", priority=5))
    grant = clocked.arrive(key="low")
    low, high = clocked.arrive(key="low"), clocked.arrive(key="high")
    clocked.settle(grant)
    [(told, grant)] = clocked.due()
    assert told is high
    clocked.settle(grant)
    assert clocked.due()[0][0] is low


def test_a_full_queue_refuses_and_makes_room_for_a_key_with_less_in_it():
    clocked = desk(queue_limit=10, longest_wait=1e6)
    clocked.keys(KeyLimits(id="greedy"), KeyLimits(id="modest"), KeyLimits(id="high", priority=3))
    grant = clocked.arrive(key="greedy")
    tickets = [clocked.arrive(key="greedy") for _ in range(10)]
    assert refusal(clocked, key="greedy").status == 429
    modest = clocked.arrive(key="modest")
    [(told, error)] = clocked.due()
    assert told is tickets[-1]
    assert error.status == 429
    assert clocked.desk.snapshot(clocked.now).models["m"].waiting == 10
    order = []
    for _ in range(2):
        clocked.settle(grant)
        [(told, grant)] = clocked.due()
        order.append(told)
    assert modest in order


def test_a_full_queue_where_nobody_has_a_key_is_the_servers_doing():
    clocked = desk(queue_limit=3, longest_wait=1e6)
    for _ in range(4):
        clocked.arrive()
    error = refusal(clocked)
    assert (error.status, error.code) == (503, "server_busy")
    assert retry_after(error) >= 1


# A model that is not there yet.


def test_waits_while_a_model_loads_and_sees_how_far_it_is():
    clocked = desk(Loading("weights", 0.4, 30.0))
    ticket = clocked.arrive()
    assert ticket.progress == Loading("weights", 0.4, 30.0)
    assert ticket.expected == 30.0
    clocked.serve(Loading("first token", 0.9, 3.0))
    assert ticket.progress.stage == "first token"
    assert clocked.due() == []
    clocked.serve(ready())
    [(told, grant)] = clocked.due()
    assert told is ticket
    assert isinstance(grant, Grant)


def test_a_load_that_takes_longer_than_the_patience_is_told_with_its_share():
    clocked = desk(Loading("weights", 0.4, 45.0))
    error = refusal(clocked, patience=30.0)
    assert (error.status, error.code) == (503, "model_loading")
    assert retry_after(error) == 45
    assert "weights (40%)" in error.message


def test_the_rest_of_a_load_is_judged_by_its_share_and_time_where_nobody_says():
    clocked = desk(Loading("weights", 0.0))
    clocked.now += 30
    clocked.serve(Loading("weights", 0.25))
    assert retry_after(refusal(clocked, patience=60.0)) == 90
    assert isinstance(clocked.arrive(patience=100.0), Ticket)


def test_a_load_of_unknown_length_is_waited_for_until_patience_ends():
    clocked = desk(Loading("weights"))
    ticket = clocked.arrive(patience=12.0)
    clocked.now += 12
    [(told, error)] = clocked.due()
    assert (told, error.code) == (ticket, "model_loading")
    assert refusal(clocked, patience=0.0).code == "model_loading"


def test_an_unloaded_model_is_demanded_by_who_waits_and_for_a_while_by_who_could_not():
    clocked = desk(Unloaded(seconds=40.0), demand_kept=60.0)
    clocked.keys(KeyLimits(id="k"))
    assert clocked.desk.demanded(clocked.now) == []
    error = refusal(clocked, patience=10.0)
    assert (error.code, retry_after(error)) == ("model_loading", 40)
    [demand] = clocked.desk.demanded(clocked.now)
    assert (demand.model, demand.waiting, demand.since) == ("m", 0, clocked.now)
    clocked.now += 5
    ticket = clocked.arrive(key="k")
    assert ticket.progress.seconds_left == 40
    clocked.now += 100
    [demand] = clocked.desk.demanded(clocked.now)
    assert (demand.waiting, demand.keys, demand.since) == (1, ("k",), clocked.now - 100)
    clocked.serve(ready())
    assert len(clocked.due()) == 1
    assert clocked.desk.demanded(clocked.now) == []


def test_a_load_that_fails_or_is_given_up_ends_the_wait():
    for state, code in ((Failed("no memory."), "model_failed"), (Unloaded("it does not fit."), "model_unavailable")):
        clocked = desk(Loading("weights"))
        ticket = clocked.arrive()
        clocked.serve(state)
        [(told, error)] = clocked.due()
        assert told is ticket
        assert (error.status, error.code) == (503, code)
        assert refusal(clocked).code == code


def test_a_model_that_is_withdrawn_ends_the_wait():
    clocked = desk(Loading("weights"))
    clocked.arrive()
    clocked.desk.withdraw("m")
    clocked.desk.withdraw("m")
    [(_, error)] = clocked.due()
    assert error.code == "model_failed"
    assert refusal(clocked).code == "model_not_found"


def test_a_replica_more_lets_those_go_on_who_wait():
    clocked = desk()
    clocked.arrive()
    ticket = clocked.arrive()
    clocked.serve(ready(replica(slots=1), replica("r1", slots=1)))
    [(told, grant)] = clocked.due()
    assert (told, grant.replica.id) == (ticket, "r1")


# Kinds.


def test_kinds_of_models_are_not_mixed_up():
    clocked = desk()
    clocked.serve(Ready((replica("e", embeddings=True),)), name="e", embeddings=True)
    assert refusal(clocked, model="e").code == "unsupported_model"
    assert refusal(clocked, route="/v1/embeddings").code == "unsupported_model"
    assert clocked.arrive(model="e", route="/v1/embeddings")
    assert clocked.arrive(model="e", route="/v1/rerank")


@pytest.mark.parametrize("route", ["/v1/embeddings", "/v1/chat/completions"])
def test_a_model_of_unknown_kind_is_waited_for_by_both(route):
    clocked = Clocked()
    clocked.serve(Loading("weights"), embeddings=None)
    assert isinstance(clocked.arrive(route=route), Ticket)


def test_who_comes_and_leaves_while_nothing_moves_leaves_nothing_behind():
    clocked = desk()
    clocked.arrive(output_tokens=1)
    clocked.arrive(output_tokens=1)
    for _ in range(2000):
        clocked.desk.leave(clocked.arrive(output_tokens=1), clocked.now)
    assert len(clocked.desk._places._waiting._heap) < 100
    assert clocked.desk.snapshot(clocked.now).models["m"].waiting == 1
