import pytest

from corral.engines.base import Symptom
from corral.engines.diagnosis import RankEnd, diagnose, how

SYMPTOMS = (
    Symptom(id="lost", pattern="connection lost to peer", cause="A peer went away.", remedy="Look at it.", depth=2),
    Symptom(id="oom", pattern=r"out of memory: (?P<need>\d+)", cause="{need} GiB short.", remedy="Shrink.", depth=0),
    Symptom(id="port", pattern="address in use", cause="The port is taken.", remedy="Choose another.", depth=1),
)


def end(name, *log, status=None, order=0):
    return RankEnd(name=name, node=f"node-of-{name}", log=log, status=status, order=order)


def test_the_quiet_root_cause_wins_over_the_loud_consequence():
    loud = end("server", *["connection lost to peer"] * 50, "Traceback ...", status=1, order=0)
    quiet = end("ray-1", "\x1b[31mtorch: out of memory: 12\x1b[0m", status=1, order=1)
    cause = diagnose(SYMPTOMS, [loud, quiet])
    assert (cause.rank, cause.node, cause.cause, cause.symptom) == (
        "ray-1",
        "node-of-ray-1",
        "12 GiB short.",
        "oom",
    )
    assert cause.line == "torch: out of memory: 12"


def test_of_equally_deep_symptoms_the_rank_that_ended_first_is_named():
    cause = diagnose(SYMPTOMS, [end("b", "address in use", status=1, order=1), end("a", "address in use", status=1)])
    assert cause.rank == "a"


def test_without_a_symptom_the_first_rank_that_failed_is_named_with_its_last_error_line():
    ends = [end("a", "bye", status=0, order=0), end("b", "hello", "Error: no idea", "cleaning up", status=3, order=1)]
    cause = diagnose(SYMPTOMS, ends)
    assert (cause.rank, cause.line) == ("b", "Error: no idea")
    assert "status 3" in cause.cause


def test_ranks_that_run_without_a_symptom_have_no_cause():
    assert diagnose(SYMPTOMS, [end("a", "loading")]) is None


def test_a_rank_that_ended_without_a_word_is_still_named():
    assert diagnose((), [end("a", status=-9)]).line == ""


@pytest.mark.parametrize(
    ("status", "words"), [(-9, "SIGKILL"), (137, "SIGKILL"), (139, "SIGSEGV"), (1, "status 1"), (0, "status 0")]
)
def test_exit_statuses_in_words(status, words):
    assert words in how(status)
