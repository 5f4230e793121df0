"""The order of the queue alone."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.account import Account
from corral.gateway.desk.fairqueue import FairQueue
from corral.gateway.desk.models import Model
from corral.gateway.desk.serving import ServedModel
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import KeyLimits
from gateway.desk.clocked import ask, ready

MODEL = Model(ServedModel(name="m", state=ready()), DeskSettings(), 0.0)
ACCOUNT = Account(KeyLimits(id="k"))


class Maker:
    def __init__(self) -> None:
        self.number = 0

    def __call__(self, key: str, cost: float = 1.0, priority: int = 0) -> Ticket:
        self.number += 1
        return Ticket(
            number=self.number, ask=ask(key=key), arrived=0.0, account=ACCOUNT, asked=MODEL, model=MODEL,
            priority=priority, cost=cost,
        )  # fmt: skip


def test_one_key_is_served_in_order():
    ticket, queue = Maker(), FairQueue(8)
    for _ in range(20):
        queue.push(ticket("a"))
    assert [queue.pop().number for _ in range(20)] == list(range(1, 21))
    with pytest.raises(IndexError):
        queue.pop()


@pytest.mark.parametrize("before", range(5))
def test_a_greedy_key_delays_anothers_only_request_by_one_of_its_own(before):
    ticket, queue = Maker(), FairQueue(8)
    for _ in range(100):
        queue.push(ticket("greedy", 10.0))
    for _ in range(before):
        queue.pop()
    queue.push(ticket("modest", 30.0))
    assert "modest" in [queue.pop().ask.key for _ in range(2)]


def test_keys_share_seconds_of_work_not_requests():
    ticket, queue = Maker(), FairQueue(8)
    for _ in range(200):
        queue.push(ticket("long", 10.0))
        queue.push(ticket("short", 1.0))
    got: Counter[str] = Counter()
    for _ in range(110):
        taken = queue.pop()
        got[taken.ask.key] += taken.cost
    assert got["long"] == pytest.approx(got["short"], abs=10)


def test_a_cost_that_was_estimated_too_low_is_put_right():
    ticket, queue = Maker(), FairQueue(8)
    for _ in range(200):
        queue.push(ticket("liar", 1.0))
        queue.push(ticket("honest", 10.0))
    got: Counter[str] = Counter()
    for _ in range(100):
        taken = queue.pop()
        got[taken.ask.key] += 10
        queue.correct(taken, 10.0)
    assert got["liar"] == pytest.approx(got["honest"], abs=20)


def test_higher_priority_first_and_a_lower_one_after_it_was_passed_often_enough():
    ticket, queue = Maker(), FairQueue(8)
    queue.push(ticket("low"))
    order = []
    for _ in range(30):
        queue.push(ticket("high", priority=2))
        queue.push(ticket("high", priority=2))
        order.append(queue.pop().ask.key)
    assert order.index("low") == 16
    assert order.count("low") == 1


def test_passing_a_lower_priority_does_not_mean_shutting_it_out():
    ticket, queue = Maker(), FairQueue(4)
    for _ in range(100):
        queue.push(ticket("low"))
        queue.push(ticket("high", priority=1))
    got = Counter(queue.pop().ask.key for _ in range(50))
    assert got["low"] == 10


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["push", "push", "push", "pop", "remove", "front", "correct"]),
        st.sampled_from("abcd"), st.floats(0, 100), st.integers(-3, 3), st.integers(0, 1000),
    ),
    max_size=200,
)  # fmt: skip


@given(OPERATIONS)
def test_whatever_is_done_nothing_is_lost_and_each_is_served_once(operations):
    maker, queue = Maker(), FairQueue(3)
    waiting: dict[int, Ticket] = {}
    taken: list[Ticket] = []
    for operation, key, cost, priority, pick in operations:
        if operation == "push":
            ticket = maker(key, cost, priority)
            waiting[ticket.number] = ticket
            queue.push(ticket)
        elif operation == "pop" and waiting:
            ticket = queue.pop()
            of_key = [n for n, t in waiting.items() if (t.ask.key, t.priority) == (ticket.ask.key, ticket.priority)]
            assert ticket.number in of_key
            del waiting[ticket.number]
            taken.append(ticket)
        elif operation == "remove" and waiting:
            ticket = list(waiting.values())[pick % len(waiting)]
            queue.remove(waiting.pop(ticket.number))
        elif operation == "front" and taken:
            ticket = taken.pop()
            waiting[ticket.number] = ticket
            queue.push(ticket, front=True)
        elif operation == "correct" and taken:
            queue.correct(taken[-1], cost)
        assert len(queue) == len(waiting)
        assert {ticket.number for ticket in queue} == set(waiting)
        assert queue.seconds == pytest.approx(sum(ticket.cost for ticket in waiting.values()), abs=1e-6)
    assert {queue.pop().number for _ in range(len(waiting))} == set(waiting)
    assert not queue


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.1, 10)), min_size=10, max_size=100))
def test_two_keys_that_both_wait_are_never_further_apart_than_their_largest_requests(requests):
    maker, queue = Maker(), FairQueue(8)
    left: Counter[str] = Counter()
    for key, cost in requests:
        queue.push(maker(key, cost))
        left[key] += 1
    got: Counter[str] = Counter()
    while queue:
        ticket = queue.pop()
        got[ticket.ask.key] += ticket.cost
        left[ticket.ask.key] -= 1
        backlogged = [got[key] for key in left if left[key]]
        if len(backlogged) > 1:
            assert max(backlogged) - min(backlogged) <= 20 + 1e-9
        assert all(got[ticket.ask.key] - ticket.cost <= other + 10 + 1e-9 for other in backlogged)


def test_keys_that_come_and_go_leave_nothing_behind():
    ticket, queue = Maker(), FairQueue(8)
    queue.push(stays := ticket("stays"))
    for number in range(5000):
        queue.push(going := ticket(f"key{number}"))
        queue.remove(going)
    level = queue._levels[0]
    assert (len(level.flows), len(level._heap) < 20) == (1, True)
    queue.remove(stays)
    assert not queue._levels
