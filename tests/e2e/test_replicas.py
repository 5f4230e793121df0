"""Several replicas of one model: one name, engines of their own, each may end or die alone."""

import json
import os
import signal

import pytest

from e2e.program import base_url, post

pytestmark = pytest.mark.slow
UP = ("up", "--port", 0, "--context", 512, "--name", "m")


def ask(told, model="m"):
    body = {"model": model, "prompt": "Hello", "max_tokens": 2}
    return post(f"{base_url(told)}/completions", json.dumps(body).encode())


def states(corral):
    return dict(corral.ask("SELECT name, state FROM deployments ORDER BY name"))


def rank_of(corral, name):
    identity = corral.deployment(name)["identity"]
    (pid,) = [pid for pid in corral.mains() if f"CORRAL_DEPLOYMENT={identity}".encode() in environment(pid)]
    return pid


def environment(pid):
    with open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()


def test_two_replicas_answer_by_one_name_and_one_serves_on_when_the_other_is_killed(corral):
    told = corral(*UP, "--replicas", 2, "--detach")
    assert states(corral) == {"m": "ready", "m~2": "ready"}
    known = corral.json("status")["deployments"]
    assert [(d["name"], d["serves"]) for d in known] == [("m", "m"), ("m~2", "m")]
    assert all(d["holds"][0]["bytes"] > 0 and d["load_seconds"] > 0 for d in known)
    assert len(corral.mains()) == 2
    assert [ask(told)[0] for _ in range(4)] == [200] * 4
    assert ask(told, "m~2")[0] == 404, "the replica's name is no model's"

    os.kill(rank_of(corral, "m~2"), signal.SIGKILL)
    corral.wait_for(lambda: states(corral)["m~2"] == "failed", "the failure")
    assert [ask(told)[0] for _ in range(4)] == [200] * 4
    shown = corral("status", status=1).stdout
    assert "m~2: Rank server" in shown
    assert states(corral)["m"] == "ready"

    corral("down", "m~2")
    corral("status")
    assert ask(told)[0] == 200
    corral("down", "m")
    corral.nothing_is_left()


def test_the_last_replica_s_end_ends_the_name_and_the_model_s_name_ends_all(corral):
    told = corral(*UP, "--layout", "dp2", "--detach")
    assert "m is ready" in told.stdout
    corral("down", "m~2")
    assert states(corral) == {"m": "ready", "m~2": "stopped"}
    corral("up", "--context", 512, "--name", "other", "--detach")
    corral("down", "m")
    assert states(corral)["other"] == "ready"
    assert ask(told)[0] == 404
    corral("down")
    corral.nothing_is_left()


def test_replicas_are_taken_up_again_after_the_head_was_killed(corral):
    told = corral(*UP, "--replicas", 2, "--detach")
    ranks = sorted(corral.mains())
    os.kill(corral.head_pid(), signal.SIGKILL)
    corral.wait_for(lambda: corral.json("status", status=1)["head"] is None, "the head's end")
    corral(*UP, "--replicas", 2, "--detach")
    corral.wait_for(lambda: ask(told)[0] == 200, "an answer at the old place")
    assert sorted(corral.mains()) == ranks
    corral("down", "m")
    corral.nothing_is_left()


def test_a_foreground_up_stays_while_one_replica_serves_and_ends_both(corral):
    up = corral.popen(*UP, "--replicas", 2)
    corral.wait_for(lambda: set(states(corral).values()) == {"ready"} and len(states(corral)) == 2, "readiness")
    os.kill(rank_of(corral, "m"), signal.SIGKILL)
    corral.wait_for(lambda: states(corral)["m"] == "failed", "the failure")
    assert up.poll() is None
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130, told
    corral.nothing_is_left()


def test_of_replicas_that_do_not_all_fit_none_is_left(corral, tmp_path):
    # Room for one: the machine has more, the cluster file gives less. What one takes is asked of the first.
    corral(*UP, "--detach")
    takes = corral.deployment("m")["holds"][0]["bytes"]
    corral("down")
    file = tmp_path / "small.yaml"
    mib = takes * 3 // 2 // 2**20
    file.write_text(f"schema: corral.cluster/1\nnodes:\n  - name: here\n    address: local\n    memory: {mib} MiB\n")
    cause, _ = corral.refused(*UP, "--replicas", 2, "--cluster", file, status=1)
    assert "Other deployments hold the rest" in cause
    corral.nothing_is_left()


def test_one_node_of_the_cluster_file_can_be_named(corral, tmp_path):
    file = tmp_path / "two.yaml"
    file.write_text(
        "schema: corral.cluster/1\nnodes:\n  - {name: here, address: local, fabric: 127.0.0.1}\n"
        "  - {name: away, address: 203.0.113.1}\n"
    )
    corral(*UP, "--cluster", file, "--node", "here", "--detach")
    assert corral.deployment("m")["nodes"] == ["here"]
    cause, _ = corral.refused(*UP, "--cluster", file, "--node", "hare", status=2)
    assert 'did you mean "here"' in cause
    corral("down")
    corral.nothing_is_left()
