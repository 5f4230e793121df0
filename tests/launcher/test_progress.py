from hypothesis import given
from hypothesis import strategies as st

from corral.launcher.progress import NEARLY, SPANS, Course


def test_a_launch_that_was_never_seen_is_as_far_as_its_stages():
    course = Course(0.0, None)
    course.step("load", 0.0)
    course.step("nodes", 1.0)
    assert course.share(1e6) == 0.5
    assert course.seconds(1.0) is None


def test_a_launch_like_an_earlier_one_is_as_far_as_its_time():
    course = Course(100.0, 40.0)
    assert (course.share(110.0), course.seconds(110.0)) == (0.25, 30.0)
    assert (course.share(200.0), course.seconds(200.0)) == (NEARLY, None)


@given(st.lists(st.tuples(st.sampled_from([*SPANS, "note"]), st.none() | st.floats(0, 1))))
def test_without_an_earlier_one_the_share_never_falls_and_is_never_whole(steps):
    course, before = Course(0.0, None), 0.0
    for stage, fraction in steps:
        course.step(stage, fraction)
        assert before <= course.share(0.0) <= NEARLY
        before = course.share(0.0)
