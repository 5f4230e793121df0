import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.planner.search.degrees import Degrees, parse_degrees


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("tp2", Degrees(tp=2)),
        ("pp3", Degrees(pp=3)),
        ("tp4xpp2", Degrees(tp=4, pp=2)),
        ("PP2xTP4", Degrees(tp=4, pp=2)),
        ("tp4xpp2xdp2", Degrees(tp=4, pp=2, dp=2)),
        ("ep8", Degrees(tp=8, ep=8)),
        ("tp8xep8", Degrees(tp=8, ep=8)),
        ("dp8xep8", Degrees(dp=8, ep=8)),
    ],
)
def test_a_layout_is_read_in_the_words_that_people_write(text, degrees):
    assert parse_degrees(text) == degrees


@pytest.mark.parametrize(
    "text", ["", "tp", "tp0", "tp4tp2", "tp4xtp2", "4x2", "tp4,pp2", "tp99999", "zz2", "tp64xpp64"]
)
def test_what_is_no_layout_is_refused_with_an_example(text):
    with pytest.raises(BadInput) as caught:
        parse_degrees(text)
    assert "tp4xpp2" in caught.value.remedy


def test_experts_over_a_number_of_ranks_that_is_no_group_are_refused():
    with pytest.raises(BadInput, match="neither tp"):
        parse_degrees("tp4xep8")


def test_replicas_are_engines_of_their_own_unless_they_share_experts():
    apart, together = parse_degrees("tp2xdp4"), parse_degrees("dp8xep8")
    assert (apart.replicas, apart.replica) == (4, Degrees(tp=2))
    assert (together.replicas, together.replica, together.shares_experts) == (1, together, True)


@given(
    tp=st.sampled_from([1, 2, 4, 8]), pp=st.integers(1, 8), dp=st.sampled_from([1, 2, 4]), way=st.sampled_from("atd")
)
def test_what_is_written_is_read_back(tp, pp, dp, way):
    ep = {"a": 1, "t": tp, "d": tp * dp}[way]
    degrees = Degrees(tp, pp, ep, dp)
    assert parse_degrees(str(degrees)) == degrees
    assert degrees.ranks == tp * pp * dp
