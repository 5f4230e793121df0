"""A limit by the minute: never more than it says, and a wait that is true."""

import math

from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.window import WINDOW, Window

USES = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 40)), max_size=60)


@given(USES, st.integers(1, 100))
def test_no_minute_has_more_than_the_limit(uses, limit):
    window = Window(limit)
    now = 0.0
    let_in: list[tuple[float, int]] = []
    for gap, amount in uses:
        now += gap
        if not window.wait(amount, now):
            window.add(amount, now)
            let_in.append((now, amount))
    for end, _ in let_in:
        assert sum(amount for at, amount in let_in if end - WINDOW + 1e-5 < at <= end) <= limit


@given(USES, st.integers(1, 100), st.integers(1, 100))
def test_who_waits_as_long_as_told_is_let_in_and_not_earlier_by_more_than_a_second(uses, limit, amount):
    window = Window(limit)
    now = 0.0
    for gap, used in uses:
        now += gap
        window.add(used, now)
    wait = window.wait(amount, now)
    assert math.isinf(wait) == (amount > limit)
    if math.isfinite(wait):
        assert 0 <= wait <= WINDOW + 1e-6
        assert window.wait(amount, now + wait) == 0


@given(st.lists(st.floats(0, 1.2), min_size=1, max_size=20))
def test_memory_does_not_grow_with_uses(gaps):
    window = Window(10**9)
    now = 0.0
    for gap in gaps * 100:
        now += gap
        window.add(1, now)
        window.wait(1, now)
        assert len(window) <= 62


@given(USES)
def test_what_is_given_back_is_free_again_and_what_is_old_is_not_given_back_twice(uses):
    window = Window(10**6)
    now = 0.0
    spans = []
    for gap, amount in uses:
        now += gap
        window.wait(1, now)
        spans.append((window.add(amount, now), amount))
    for span, amount in spans:
        window.give_back(span, amount, now)
    window.wait(1, now)
    assert window.used == 0
    window.wait(1, now + 2 * WINDOW)
    assert window.used == 0
