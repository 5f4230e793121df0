"""Speeds learned from answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.desk.rates import Rates


def test_what_nobody_predicted_is_learned_from_the_first_answers():
    rates = Rates(0.0, 0.0)
    for _ in range(4):
        rates.learn_prefill(2000, 0, 2000 / 5000)
        rates.learn_decode(100, 100 / 80, 1)
    assert rates.prefill == pytest.approx(5000, rel=0.1)
    assert 1 / rates.tpot(1) == pytest.approx(80, rel=0.1)


def test_a_prediction_is_worth_some_answers_and_then_yields():
    rates = Rates(1000.0, 50.0)
    rates.learn_prefill(1000, 0, 0.5)
    assert 1000 < rates.prefill < 1500
    for _ in range(30):
        rates.learn_prefill(1000, 0, 0.5)
    assert rates.prefill == pytest.approx(2000, rel=0.05)


def test_one_wild_answer_moves_little():
    rates = Rates(1000.0, 50.0)
    for _ in range(20):
        rates.learn_prefill(1000, 0, 1.0)
    rates.learn_prefill(1000, 0, 1e-9)
    assert rates.prefill < 1300


def test_short_prompts_and_answers_teach_nothing():
    rates = Rates(1000.0, 50.0)
    before = (rates.prefill, rates.tpot(1))
    rates.learn_prefill(100, 100_000, 5.0)
    rates.learn_decode(3, 9.0, 1)
    rates.learn_prefill(1000, 0, 0.0)
    assert (rates.prefill, rates.tpot(1)) == before


def test_what_was_read_before_counts_with_what_was_waited():
    rates = Rates(1000.0, 0.0)
    for _ in range(30):
        rates.learn_prefill(1000, 9000, 10.0)
    assert rates.prefill == pytest.approx(1000)


def test_learns_how_streams_slow_each_other_down():
    rates = Rates(0.0, 0.0)
    for turn in range(200):
        streams = 1 + turn % 8
        rates.learn_decode(100, 100 * (0.020 + 0.005 * (streams - 1)), streams)
    assert rates.tpot(1) == pytest.approx(0.020, rel=0.1)
    assert rates.tpot(8) == pytest.approx(0.055, rel=0.1)


@given(
    st.floats(0, 1e5),
    st.floats(0, 1e3),
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e4), st.integers(1, 300)), max_size=50),
)
def test_speeds_stay_finite_and_above_nothing(prefill, decode, seen):
    rates = Rates(prefill if prefill > 1 else 0.0, decode if decode > 0.1 else 0.0)
    for tokens, before, seconds, streams in seen:
        rates.learn_prefill(tokens, before, seconds)
        rates.learn_decode(tokens, seconds, streams)
        assert 0 < rates.prefill < float("inf")
        assert 0 < rates.tpot(1) <= rates.tpot(50) < float("inf")
