from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.table import Failed
from corral.launcher.stops import LONGEST_BACKOFF, Stops

NOBODY = frozenset()


def test_a_failure_is_told_with_the_time_that_is_left_and_then_is_over():
    stops = Stops()
    assert stops.failed("m", "It broke.", 100.0) == Failed("It broke.", 5.0)
    assert stops.holds("m")
    assert stops.look("m", 102.5, NOBODY) == Failed("It broke.", 3.0)
    assert stops.look("m", 105.0, NOBODY) is True
    assert not stops.holds("m")
    assert stops.look("m", 106.0, NOBODY) is False
    assert stops.failed("m", "Again.", 110.0).seconds == 10.0
    stops.forget({"m", "n"})
    assert stops.failed("m", "Much later.", 900.0).seconds == 5.0


def test_an_old_failure_holds_nobody_up():
    stops = Stops()
    stops.failed("m", "It broke.", 100.0, age=3600.0)
    assert stops.look("m", 100.0, NOBODY) is True


def test_a_refusal_stands_for_a_minute_or_until_what_was_in_its_way_has_changed():
    stops = Stops()
    stops.refused("m", "No room.", 0.0, frozenset({"a"}))
    assert stops.look("m", 59.0, frozenset({"a"})) == Failed("No room.", 1.0)
    assert stops.look("m", 59.0, NOBODY) is True
    stops.refused("m", "No room.", 0.0, NOBODY)
    assert stops.look("m", 60.0, NOBODY) is True
    assert stops.names() == NOBODY


@given(st.integers(1, 40))
def test_pauses_grow_and_end(failures):
    stops, before = Stops(), 0.0
    for _ in range(failures):
        pause = stops.failed("m", "It broke.", 0.0).seconds
        assert before <= pause <= LONGEST_BACKOFF
        before = pause
