from hypothesis import given
from hypothesis import strategies as st

from corral.launcher.deadline import CEILING, QUIET_SECONDS, Deadline
from corral.units import GIB


def test_five_minutes_and_twenty_seconds_a_gib():
    deadline = Deadline(started=0.0, weights_bytes=10 * GIB)
    assert deadline.seconds == 500.0
    assert not deadline.expired(499.0)
    assert deadline.expired(501.0)


def test_a_line_in_a_log_extends_it():
    deadline = Deadline(started=0.0, weights_bytes=0)
    deadline.log(290.0)
    assert not deadline.expired(301.0)
    assert deadline.expired(291.0 + QUIET_SECONDS)


def test_a_rank_at_work_extends_it_and_an_idle_one_does_not():
    busy, idle = (Deadline(started=0.0, weights_bytes=0) for _ in range(2))
    for second in range(0, 400, 3):
        busy.cpu("a", second * 0.5, float(second))
        idle.cpu("a", second * 0.001, float(second))
    assert not busy.expired(400.0)
    assert idle.expired(400.0)


@given(st.integers(0, 2000 * GIB), st.floats(0, 1e6))
def test_larger_weights_never_shorten_it(weights, now):
    assert not (Deadline(0.0, weights + GIB).expired(now) and not Deadline(0.0, weights).expired(now))


def test_what_only_looks_busy_is_given_up_in_the_end():
    deadline = Deadline(started=0.0, weights_bytes=0)
    for second in range(0, 2000, 3):
        deadline.log(float(second))
        assert deadline.expired(float(second)) == (second > CEILING * 300)
