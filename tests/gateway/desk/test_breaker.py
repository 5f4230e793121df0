"""The breaker's transitions, and how long an outage lasts."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.breaker import Breaker, Event, State
from corral.gateway.desk.settings import DeskSettings

SETTINGS = DeskSettings()


def told(*events: Event, now: float = 0.0) -> Breaker:
    breaker = Breaker(SETTINGS)
    for event in events:
        breaker.tell(event, now)
    return breaker


FAILED, WORKED = Event.FAILED, Event.WORKED


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([FAILED, FAILED], State.CLOSED),
        ([FAILED, FAILED, FAILED], State.OPEN),
        ([FAILED, FAILED, WORKED, FAILED], State.CLOSED),
        ([FAILED, WORKED] * 6, State.OPEN),
        ([FAILED, WORKED, WORKED] * 50, State.CLOSED),
        ([FAILED] * 3 + [WORKED] * 9, State.OPEN),
        ([FAILED] * 3 + [Event.PROBE_WORKED], State.HALF_OPEN),
        ([FAILED] * 3 + [Event.PROBE_FAILED], State.OPEN),
        ([FAILED] * 3 + [Event.PROBE_WORKED, FAILED], State.OPEN),
        ([FAILED] * 3 + [Event.PROBE_WORKED, WORKED, WORKED], State.HALF_OPEN),
        ([FAILED] * 3 + [Event.PROBE_WORKED, WORKED, WORKED, WORKED], State.CLOSED),
        ([Event.PROBE_FAILED] * 5, State.CLOSED),
    ],
)
def test_goes_where_the_table_says(events, state):
    assert told(*events).state is state


def test_pauses_double_up_to_a_bound_and_begin_anew_after_recovery():
    breaker = told(FAILED, FAILED, FAILED)
    now, pauses = 0.0, []
    for _ in range(10):
        pauses.append(breaker.probe_at - now)
        now = breaker.probe_at
        assert breaker.wants_probe(now)
        breaker.tell(Event.PROBE_FAILED, now)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    breaker.tell(Event.PROBE_WORKED, now)
    for _ in range(SETTINGS.trials):
        breaker.tell(WORKED, now)
    for _ in range(SETTINGS.failures):
        breaker.tell(FAILED, now)
    assert breaker.probe_at - now == 0.25


def test_a_probe_is_asked_for_once_and_anew_when_nobody_reports():
    breaker = told(FAILED, FAILED, FAILED)
    assert not breaker.wants_probe(0.2)
    assert breaker.wants_probe(0.25)
    assert not breaker.wants_probe(0.3)
    assert breaker.wants_probe(0.25 + SETTINGS.probe_timeout)


def test_an_answer_from_before_brings_the_probe_forward():
    breaker = told(FAILED, FAILED, FAILED)
    breaker.tell(WORKED, 0.1)
    assert breaker.state is State.OPEN
    assert breaker.wants_probe(0.1)


@given(st.floats(0.01, 1000), st.floats(0, 0.5))
def test_a_lone_replica_is_back_soon_after_its_outage(outage, probe_takes):
    breaker = Breaker(SETTINGS)
    for _ in range(3):
        breaker.tell(FAILED, 0.0, alone=True)
    now = 0.0
    while breaker.state is State.OPEN:
        now = breaker.probe_at
        assert breaker.wants_probe(now)
        now += probe_takes
        breaker.tell(Event.PROBE_WORKED if now - probe_takes >= outage else Event.PROBE_FAILED, now, alone=True)
    assert now - outage <= min(outage + 0.25, 1.0) + 2 * probe_takes + 1e-6


def test_when_the_others_fail_too_a_long_pause_is_cut_short():
    breaker = told(*[FAILED] * 3, *[Event.PROBE_FAILED] * 7)
    assert breaker.probe_at == 30
    breaker.hurry(2.0)
    assert breaker.probe_at == 3.0
    closed = told()
    closed.hurry(2.0)
    assert closed.probe_at == inf
