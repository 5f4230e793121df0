"""A request that waits for a full replica which knows its prompt, though another one is free."""

import pytest

from corral.gateway.desk.breaker import Event
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Grant, Outcome
from gateway.desk.clocked import Clocked, answered, ready, replica

CONVERSATION = tuple(f"turn{number}".encode() for number in range(40))


def busy_home(running: float = 6.5) -> tuple[Clocked, Grant]:
    """Two replicas with a slot each. One knows a prompt of 20 s, and has been busy with something else for a while."""
    clocked = Clocked()
    both = {name: replica(name, slots=1, prefill_rate=1000, decode_rate=20) for name in ("r0", "r1")}
    clocked.serve(ready(*both.values()))
    first = clocked.arrive(prompt_tokens=20_000, prefix=CONVERSATION)
    clocked.serve(ready(both[first.replica.id]))
    clocked.settle(first, Outcome(end="left", status=200, seconds=1, first_token=1))
    other = clocked.arrive(prompt_tokens=100, output_tokens=140)  # 7.1 s and a bit
    clocked.serve(ready(*both.values()))
    clocked.now += running
    assert other.replica.id == first.replica.id
    return clocked, other


def follow_up(clocked: Clocked, **fields):
    return clocked.arrive(prompt_tokens=20_500, prefix=(*CONVERSATION, b"new"), **fields)


def test_waits_where_that_is_sooner_than_to_read_all_of_it_elsewhere():
    clocked, other = busy_home()
    ticket = follow_up(clocked)
    assert isinstance(ticket, Ticket)
    assert ticket.expected == pytest.approx(1.6, abs=0.1)  # a quarter of what the other ran: it is nearly done
    assert clocked.due() == []
    clocked.now += 0.6
    clocked.settle(other)
    [(told, grant)] = clocked.due()
    assert told is ticket
    assert grant.replica.id == other.replica.id


def test_goes_elsewhere_at_once_where_the_wait_is_not_worth_it():
    clocked, other = busy_home()
    grant = clocked.arrive(prompt_tokens=1000, prefix=CONVERSATION[:2])
    assert grant.replica.id != other.replica.id


@pytest.mark.parametrize("patience", [0.0, 1.0])
def test_goes_elsewhere_at_once_where_it_has_no_time_to_wait(patience):
    clocked, other = busy_home()
    grant = follow_up(clocked, patience=patience)
    assert grant.replica.id != other.replica.id


def test_others_are_not_held_up_by_who_waits_by_choice():
    clocked, other = busy_home()
    follow_up(clocked)
    grant = clocked.arrive(prompt_tokens=500, patience=0.0)
    assert isinstance(grant, Grant)
    assert grant.replica.id != other.replica.id


def test_goes_elsewhere_when_the_wait_is_longer_than_it_should_be():
    clocked, other = busy_home()
    ticket = follow_up(clocked)
    assert clocked.desk.next_due() == pytest.approx(clocked.now + 2 * ticket.expected + 0.5)
    clocked.now = clocked.desk.next_due()
    [(told, grant)] = clocked.due()
    assert told is ticket
    assert grant.replica.id != other.replica.id


def test_waits_on_like_anybody_when_then_the_other_is_full_too():
    clocked, other = busy_home()
    ticket = follow_up(clocked)
    elsewhere = clocked.arrive(prompt_tokens=500)
    later = clocked.arrive(prompt_tokens=500)
    clocked.now = clocked.desk.next_due()
    assert clocked.due() == []
    assert clocked.desk.next_due() == ticket.arrived + 120
    # It has waited for the one long enough; now it takes what it gets, and before who came later.
    clocked.settle(elsewhere)
    [(told, grant)] = clocked.due()
    assert (told, grant.replica.id) == (ticket, elsewhere.replica.id)
    clocked.settle(other)
    assert [told for told, _ in clocked.due()] == [later]


def test_goes_elsewhere_when_the_one_that_it_waits_for_fails():
    clocked, other = busy_home()
    ticket = follow_up(clocked)
    clocked.settle(other, Outcome(end="cut", status=200, seconds=6, first_token=1))
    [(told, grant)] = clocked.due()
    assert (told, grant.replica.id) == (ticket, other.replica.id)  # one failure is none yet
    again = clocked.again(grant, "unreachable")
    assert again.replica.id != other.replica.id


def test_does_not_wait_for_a_replica_that_is_not_trusted():
    clocked, other = busy_home()
    [home] = [s for s in clocked.desk._names.models["m"].replicas if s.replica.id == other.replica.id]
    for _ in range(3):
        home.breaker.tell(Event.FAILED, clocked.now)
    assert follow_up(clocked).replica.id != other.replica.id


def test_who_waits_by_choice_may_leave():
    clocked, other = busy_home()
    ticket = follow_up(clocked)
    clocked.desk.leave(ticket, clocked.now)
    assert clocked.due() == []
    clocked.settle(other, answered())
    assert clocked.desk.snapshot(clocked.now).models["m"].waiting == 0
