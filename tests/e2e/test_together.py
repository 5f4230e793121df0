"""Commands that run at the same time: one head, no name twice, no wish forgotten, nothing left."""

import signal

import pytest

from e2e.program import free_port

pytestmark = pytest.mark.slow
UP = ("up", "--context", 512)


def ends(*processes):
    told = [process.communicate(timeout=120) for process in processes]
    for _, errors in told:
        assert "Traceback" not in errors
        assert "defect" not in errors
    return [process.returncode for process in processes], told


def test_two_ups_at_once_share_one_head(corral):
    port = free_port()
    both = [corral.popen(*UP, "--detach", "--port", port, "--name", name) for name in ("one", "two")]
    statuses, told = ends(*both)
    assert statuses == [0, 0], told
    status = corral.json("status")
    assert {d["name"]: d["state"] for d in status["deployments"]} == {"one": "ready", "two": "ready"}
    assert status["head"]["port"] == port
    assert len(corral.mains()) == 2
    corral("down")
    corral.nothing_is_left()


def test_of_two_ups_of_one_name_one_is_refused(corral):
    port = free_port()
    both = [corral.popen(*UP, "--detach", "--port", port) for _ in range(2)]
    statuses, told = ends(*both)
    assert sorted(statuses) == [0, 1], told
    assert "A deployment named default is already" in told[statuses.index(1)][1]
    assert len(corral.mains()) == 1
    corral("down")
    corral.nothing_is_left()


def test_of_two_ups_with_different_ports_one_is_refused(corral):
    both = [corral.popen(*UP, "--detach", "--port", free_port(), "--name", name) for name in ("one", "two")]
    statuses, told = ends(*both)
    assert sorted(statuses) == [0, 1], told
    assert "one endpoint serves all models" in told[statuses.index(1)][1]
    (deployment,) = corral.json("status")["deployments"]
    assert deployment["state"] == "ready"
    corral("down")
    corral.nothing_is_left()


@pytest.mark.parametrize("stage", ["queued", "model", "ranks", "ready"])
def test_down_ends_an_up_that_still_runs(corral, stage):
    up = corral.popen(*UP, "--port", 0)
    corral.wait_for(lambda: corral.began(stage), stage)
    corral("down")
    (status,), told = ends(up)
    assert status == (1 if "ended before it was ready" in told[0][1] else 0), told
    assert stage != "ready" or status == 0
    corral.nothing_is_left()


def test_two_downs_at_once_both_see_the_end(corral):
    corral(*UP, "--detach", "--port", 0)
    statuses, told = ends(*(corral.popen("down") for _ in range(2)))
    assert statuses == [0, 0], told
    corral.nothing_is_left()


def test_an_up_right_after_a_down_finds_its_own_head(corral):
    corral(*UP, "--detach", "--port", 0, "--name", "one")
    down = corral.popen("down")
    corral.wait_for(lambda: corral.state("one") == "stopped", "the end")
    up = corral.popen(*UP, "--port", 0, "--name", "two")  # while the head of the first is about to end
    assert ends(down)[0] == [0]
    corral.wait_for(lambda: corral.state("two") == "ready" or up.poll() is not None, "readiness")
    up.send_signal(signal.SIGINT)
    assert ends(up)[0] == [130]
    corral.nothing_is_left()
