"""Processes of Corral and of the engine are killed: what can live on is taken up again, the rest is named and ended."""

import os
import random
import signal
import threading
import urllib.error

import pytest

from e2e.program import base_url, post

pytestmark = pytest.mark.slow
UP = ("up", "--port", 0, "--context", 512)
QUESTION = b'{"model": "default", "prompt": "Hello", "max_tokens": 4}'
SEED = 7


def ask(told, timeout=30):
    return post(f"{base_url(told)}/completions", QUESTION, timeout)


def kinds(corral):
    return [kind for (kind,) in corral.ask("SELECT kind FROM events ORDER BY id")]


def kill_head(corral):
    pid = corral.head_pid()
    os.kill(pid, signal.SIGKILL)
    corral.wait_for(lambda: not os.path.exists(f"/proc/{pid}") or zombie(pid), "the head's end")


def zombie(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


def test_a_killed_head_leaves_the_engine_and_the_next_one_takes_it_up_at_the_same_place(corral):
    told = corral(*UP, "--detach")
    ranks = corral.mains()
    kill_head(corral)
    assert corral.mains() == ranks
    corral("status", status=1)
    corral("up", "--context", 512, "--detach")  # the same again: it runs already, and this finds a head for it
    corral.wait_for(lambda: "deployment.adopted" in kinds(corral), "the adoption")
    assert corral.wait_for(lambda: ask(told)[0] == 200, "an answer at the old place")
    assert corral.mains() == ranks
    assert kinds(corral).count("deployment.ready") == 1, "nothing was loaded again"
    corral("down")
    corral.nothing_is_left()


def test_down_ends_what_a_killed_head_left(corral):
    corral(*UP, "--detach")
    kill_head(corral)
    corral("down")
    corral.nothing_is_left()


def test_a_foreground_up_takes_its_ranks_up_again_when_the_head_is_killed(corral):
    up = corral.popen(*UP)
    corral.wait_for(lambda: corral.state() == "ready", "readiness")
    ranks = corral.mains()
    kill_head(corral)
    corral.wait_for(lambda: "deployment.adopted" in kinds(corral), "the adoption")
    assert corral.mains() == ranks
    up.send_signal(signal.SIGINT)
    up.communicate(timeout=60)
    assert up.returncode == 130
    corral.nothing_is_left()


@pytest.mark.parametrize("stage", ["nodes", "model", "ranks", "load", *range(4)])
def test_a_head_killed_during_the_launch_is_replaced_and_nothing_runs_twice(corral, stage):
    up = corral.popen(*UP)
    if isinstance(stage, str):
        corral.wait_for(lambda: corral.began(stage), stage)
    else:
        corral.wait_for(lambda: corral.began("nodes"), "the first stage")
        threading.Event().wait(random.Random(SEED + stage).uniform(0, 3))
    corral.wait_for(corral.head_pid, "the head's address")
    kill_head(corral)
    corral.wait_for(lambda: corral.state() == "ready" and len(corral.mains()) == 1, "readiness")
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130, told
    corral.nothing_is_left()


@pytest.mark.parametrize("stage", ["nodes", "model", "ranks", "load"])
def test_down_after_head_and_up_were_killed_during_the_launch(corral, stage):
    up = corral.popen(*UP)
    corral.wait_for(lambda: corral.began(stage), stage)
    up.kill()
    kill_head(corral)
    up.communicate(timeout=60)
    corral("down")
    corral.nothing_is_left()


def test_a_head_killed_during_down_does_not_leave_down_waiting(corral):
    corral(*UP, "--detach")
    (server,) = corral.mains()
    os.kill(server, signal.SIGSTOP)  # so that ending takes its time
    down = corral.popen("down")
    corral.wait_for(lambda: corral.state() == "stopping", "the end to begin")
    kill_head(corral)
    _, told = down.communicate(timeout=90)
    assert down.returncode == 0, told
    corral.nothing_is_left()


def test_a_killed_rank_is_named_everywhere_until_it_is_ended(corral):
    told = corral(*UP, "--detach")
    (server,) = corral.mains()
    os.kill(server, signal.SIGKILL)
    corral.wait_for(lambda: corral.state() == "failed", "the failure")
    known = corral.deployment()
    assert known["failure"]["rank"] == "server"
    assert known["nodes"][0] in known["failure"]["cause"]
    assert "SIGKILL" in known["failure"]["cause"]
    assert known["failure"]["cause"] in corral("status", status=1).stdout
    status, answer = ask(told)
    assert status == 503
    assert known["failure"]["cause"] in answer["error"]["message"]
    kill_head(corral)
    again = corral(*UP, "--detach")
    assert ask(again)[0] == 200
    corral("down")
    corral.nothing_is_left()


def test_down_forgives_a_failure_and_ends_the_endpoint_that_told_of_it(corral):
    told = corral(*UP, "--detach")
    os.kill(corral.mains()[0], signal.SIGKILL)
    corral.wait_for(lambda: corral.state() == "failed", "the failure")
    assert "default has ended" in corral("down").stderr
    corral.nothing_is_left()
    assert corral.json("status")["deployments"] == []
    with pytest.raises(urllib.error.URLError):
        ask(told)


def test_a_failure_is_told_by_the_next_head_too(corral):
    told = corral(*UP, "--detach")
    os.kill(corral.mains()[0], signal.SIGKILL)
    corral.wait_for(lambda: corral.state() == "failed", "the failure")
    kill_head(corral)
    beside = corral("up", "--detach", "--context", 512, "--name", "other")
    assert base_url(beside) == base_url(told)
    assert ask(told)[0] == 503
    corral("down")
    corral.nothing_is_left()


def test_a_foreground_up_ends_with_the_cause_when_a_rank_is_killed(corral):
    up = corral.popen(*UP)
    corral.wait_for(lambda: corral.state() == "ready", "readiness")
    os.kill(corral.mains()[0], signal.SIGKILL)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 3, told
    assert "Rank server on" in told
    assert "SIGKILL" in told
    corral.nothing_is_left()
    corral("status", status=1)
    corral(*UP, "--detach")
    corral("status")


def test_a_rank_killed_while_it_loads_ends_the_launch_with_the_cause(corral):
    up = corral.popen(*UP)
    server = corral.wait_for(corral.mains, "the rank")[0]
    os.kill(server, signal.SIGKILL)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 3, told
    assert "Rank server on" in told
    corral.nothing_is_left()


def test_a_rank_that_stands_still_crashes_nothing_and_can_be_ended(corral):
    told = corral(*UP, "--detach")
    os.kill(corral.mains()[0], signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        ask(told, timeout=1)
    corral("status")
    corral("down")
    corral.nothing_is_left()
