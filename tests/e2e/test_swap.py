"""More models than fit: loaded when they are asked for, sent off when others are, with real engines."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from e2e.program import Corral, base_url, embedding_gguf, post

pytestmark = pytest.mark.slow
HEAD = "schema: corral.cluster/1\nnodes:\n  - name: here\n    address: local\n    memory: {mib} MiB\nmodels:\n"
CONTEXT = 512


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    """Bytes that one small model is planned with."""
    runner = Corral(tmp_path_factory.mktemp("measure") / "state")
    try:
        runner("up", "--port", 0, "--context", CONTEXT, "--detach")
        return runner.deployment()["holds"][0]["bytes"]
    finally:
        runner.end()


@pytest.fixture
def file(tmp_path, takes):
    """Write a cluster file with room for so many of the small models; each entry is what follows `name`."""

    def write(models, *, room=1.0, stay="300 ms", min_loaded=0):
        text = HEAD.format(mib=int(takes * (room + 0.5)) // 2**20)
        for name, more in models.items():
            text += f"  - {{name: {name}, model: demo, context: {CONTEXT}{more}}}\n"
        text += f"residency: {{min_stay: {stay}, min_loaded: {min_loaded}}}\n"
        path = tmp_path / "cluster.yaml"
        path.write_text(text)
        return path

    return write


def up(corral, path, *more):
    return corral("up", "--port", 0, "--cluster", path, "--detach", *more)


def once(url, model, tokens=2):
    body = {"model": model, "prompt": "Hello", "max_tokens": tokens, "temperature": 0}
    return post(f"{url}/completions", json.dumps(body).encode(), timeout=60)


def ask(url, model, seconds=60.0, tokens=2):
    """Ask until the model answers, as a client does that is told to come back; gives how often it was told so."""
    deadline, told = time.monotonic() + seconds, []
    while True:
        status, answer = once(url, model, tokens)
        if status == 200:
            return told
        assert status == 503, answer
        told.append(answer["error"])
        assert time.monotonic() < deadline, told[-3:]
        time.sleep(0.1)


def until_cut_off(url, model):
    """Ask, and expect to lose the connection while waiting."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        once(url, model)


def states(corral):
    return dict(corral.ask("SELECT name, state FROM deployments ORDER BY name"))


def loads(corral):
    return [name for (name,) in corral.ask("SELECT deployment FROM events WHERE kind = 'deployment.ready' ORDER BY id")]


def models(url):
    with urllib.request.urlopen(f"{url}/models", timeout=10) as answer:
        return [model["id"] for model in json.load(answer)["data"]]


def test_a_model_is_loaded_when_asked_for_and_leaves_for_the_next(corral, file):
    told = up(corral, file({"a": "", "b": ", aliases: [bee]"}))
    url = base_url(told)
    assert "a: loads when asked" in told.stdout
    assert models(url) == ["a", "b"]
    assert corral.mains() == []
    shown = corral("status").stdout
    assert shown.count("loads when asked") == 2

    assert ask(url, "a") == [], "who asks waits for it"
    assert states(corral) == {"a": "ready"}
    ask(url, "bee")
    assert states(corral) == {"a": "stopped", "b": "ready"}
    assert len(corral.mains()) == 1
    assert models(url) == ["a", "b"]
    told = corral.json("status")
    assert {offer["name"]: offer["loaded"] for offer in told["offers"]} == {"a": False, "b": True}
    assert "b is asked for" in corral("events").stdout
    assert once(url, "nobody")[0] == 404

    corral("down")
    corral.nothing_is_left()
    assert corral.json("status")["offers"] == []


def test_models_that_fit_side_by_side_stay_and_the_longest_unused_leaves(corral, file):
    url = base_url(up(corral, file({"a": "", "b": "", "c": ""}, room=2)))
    ask(url, "a")
    ask(url, "b")
    assert states(corral) == {"a": "ready", "b": "ready"}
    b = corral.deployment("b")
    over = b["ready_at"] + b["load_seconds"] + 1.0  # until then b has just come, and a would leave
    corral.wait_for(lambda: time.time() > over, "the time that b must stay")
    ask(url, "a")
    ask(url, "c")
    assert states(corral) == {"a": "ready", "b": "stopped", "c": "ready"}
    corral("down")
    corral.nothing_is_left()


def test_two_clients_that_alternate_are_all_answered_with_few_loads(corral, file):
    url = base_url(up(corral, file({"a": "", "b": ""}, stay="3 s")))
    wrong, began = [], time.monotonic()

    def client(order):
        try:
            for name in order:
                ask(url, name, seconds=120)
        except AssertionError as error:
            wrong.append(error)

    threads = [threading.Thread(target=client, args=(order,)) for order in (["a", "b"] * 5, ["b", "a"] * 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert not wrong, wrong
    # A model stays 3 s at least: however often the two change, no more loads than that allows, and no more than asks.
    assert len(loads(corral)) <= min(20, took / 3 + 1)
    assert len(corral.mains()) == 1
    corral("down")
    corral.nothing_is_left()


def test_a_pinned_model_stays_and_what_cannot_fit_beside_it_is_refused_with_the_reason(corral, file):
    url = base_url(up(corral, file({"a": ", pinned: true", "b": ", fallback: [a]", "c": ""})))
    assert states(corral) == {"a": "ready"}
    (pid,) = corral.mains()
    for _ in range(100):
        status, answer = once(url, "c")
        assert status == 503
        if answer["error"]["code"] == "model_failed":
            break
        time.sleep(0.1)
    assert "a is pinned" in answer["error"]["message"]
    assert [once(url, "c")[0] for _ in range(5)] == [503] * 5
    assert corral("events").stdout.count("model.refused") == 1, "it is not tried again at every request"
    ask(url, "b")  # its fallback answers
    assert corral.mains() == [pid]
    corral("down")
    corral.nothing_is_left()


def test_an_idle_model_leaves_after_its_time_and_comes_back(corral, file):
    url = base_url(up(corral, file({"a": ", ttl: 1 s", "b": ""}, room=2)))
    ask(url, "b")
    ask(url, "a")
    corral.wait_for(lambda: states(corral)["a"] == "stopped", "the end of its idleness", seconds=30)
    assert states(corral)["b"] == "ready"
    assert "idle for 1" in corral("events").stdout
    ask(url, "a")
    corral("down")
    corral.nothing_is_left()


def test_min_loaded_models_are_there_at_once_and_stay_however_idle(corral, file):
    url = base_url(up(corral, file({"a": ", ttl: 200 ms", "b": ", ttl: 200 ms"}, room=2, min_loaded=1)))
    assert states(corral) == {"a": "ready"}
    ask(url, "b")
    corral.wait_for(lambda: list(states(corral).values()).count("ready") == 1, "one to leave", seconds=30)
    time.sleep(1.0)  # time in which the other must not leave
    assert list(states(corral).values()).count("ready") == 1
    corral("down")
    corral.nothing_is_left()


@pytest.mark.parametrize("moment", ["asked", "stopping", "launching", "load"])
def test_a_head_killed_in_the_middle_of_a_swap_is_replaced_and_all_is_well(corral, file, moment):
    path = file({"a": "", "b": ""})
    url = base_url(up(corral, path))
    ask(url, "a")
    threading.Thread(target=until_cut_off, args=(url, "b")).start()
    if moment == "asked":
        corral.wait_for(lambda: "b is asked for" in corral("events").stdout, "the demand")
    if moment == "stopping":
        corral.wait_for(lambda: states(corral).get("a") in {"stopping", "stopped"}, "the first to leave")
    if moment in {"launching", "load"}:
        corral.wait_for(lambda: states(corral).get("b") in {"launching", "ready"}, "the second to come")
    if moment == "load":
        corral.wait_for(lambda: corral.began("load", "b"), "the load")
    os.kill(corral.head_pid(), signal.SIGKILL)
    again = up(corral, path)
    assert base_url(again) == url, "the next head serves at the same place"
    ask(url, "b")
    ask(url, "a")
    assert len(corral.mains()) == 1
    corral("down")
    corral.nothing_is_left()


def test_a_load_that_fails_is_told_and_not_tried_at_once(corral, file, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\0" * 100)
    path = file({"a": "", "b": ""}, room=2)
    path.write_text(path.read_text().replace("name: b, model: demo", "name: b, model: broken.gguf"))
    url = base_url(up(corral, path))
    ask(url, "a")
    for _ in range(100):
        status, answer = once(url, "b")
        assert status == 503
        if answer["error"]["code"] == "model_failed":
            break
        time.sleep(0.1)
    assert "broken" in answer["error"]["message"]
    assert [once(url, "b")[0] for _ in range(3)] == [503] * 3
    assert once(url, "a")[0] == 200
    corral("down")
    corral.nothing_is_left()


def test_an_engine_that_dies_is_loaded_again_when_asked_for_and_a_pinned_one_by_itself(corral, file):
    url = base_url(up(corral, file({"a": ", pinned: true", "b": ""}, room=2)))
    (pid,) = corral.mains()
    os.kill(pid, signal.SIGKILL)
    corral.wait_for(lambda: states(corral)["a"] == "failed", "the failure")
    corral.wait_for(lambda: states(corral)["a"] == "ready", "its return", seconds=60)
    assert ask(url, "a") == []
    corral("down")
    corral.nothing_is_left()


def test_a_request_in_flight_is_answered_before_its_model_leaves(corral, file):
    url = base_url(up(corral, file({"a": "", "b": ""})))
    ask(url, "a")
    answered = []
    long = threading.Thread(target=lambda: answered.append(once(url, "a", tokens=400)))
    long.start()
    ask(url, "b")
    long.join()
    status, answer = answered[0]
    assert (status, answer["usage"]["completion_tokens"] > 0) == (200, True), answer
    corral("down")
    corral.nothing_is_left()


def test_one_model_of_the_file_is_loaded_by_its_name_and_ended_by_it(corral, file):
    path = file({"a": "", "b": ", aliases: [bee]"})
    url = base_url(up(corral, path, "b"))
    assert states(corral) == {"b": "ready"}
    assert models(url) == ["b"]
    assert once(url, "bee")[0] == 200
    cause, _ = corral.refused("up", "b", "--cluster", path, "--context", 99, "--detach")
    assert "--context was given" in cause
    corral("down", "b")
    corral.nothing_is_left()


def test_one_of_the_models_that_are_offered_is_loaded_by_its_name_and_the_others_stay_offered(corral, file):
    path = file({"a": ", pinned: true", "b": "", "c": ""}, room=2)
    url = base_url(up(corral, path))
    told = corral("up", "b", "--cluster", path)
    assert "b: ready" in told.stdout
    cause, _ = corral.refused("up", "c", "--cluster", path, status=1)
    assert "Other deployments hold the rest" in cause
    assert {name: state for name, state in states(corral).items() if state == "ready"} == {"a": "ready", "b": "ready"}
    assert models(url) == ["a", "b", "c"], "a load that failed takes nothing from the offers"
    corral("down")
    corral.nothing_is_left()


def test_a_foreground_up_of_all_models_ends_them_all(corral, file):
    process = corral.popen("up", "--port", 0, "--cluster", file({"a": ", pinned: true", "b": ""}, room=2))
    corral.wait_for(lambda: states(corral).get("a") == "ready", "readiness")
    url = f"{corral.json('status')['head']['url']}/v1"
    ask(url, "b")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    corral.nothing_is_left()
    assert corral.json("status")["offers"] == []


def test_an_embedding_model_answers_beside_a_chat_model(corral, file, tmp_path, takes):
    corral("up", "--port", 0, "--context", CONTEXT, "--detach")  # so that the demo model is made
    (chat,) = sorted((Path.home() / ".cache/corral/models/demo").glob("*/*.gguf"))[-1:]
    corral("down")
    embedding_gguf(chat, tmp_path / "vectors.gguf")
    path = file({"chat": "", "vectors": ", aliases: [text-embedding-3-small]"}, room=2)
    path.write_text(path.read_text().replace("name: vectors, model: demo", "name: vectors, model: vectors.gguf"))
    url = base_url(up(corral, path))
    ask(url, "chat")
    body = json.dumps({"model": "text-embedding-3-small", "input": "some words"}).encode()
    answers = []
    for _ in range(300):
        answers.append(post(f"{url}/embeddings", body, timeout=30))
        if answers[-1][0] == 200:
            break
        time.sleep(0.1)
    status, answer = answers[-1]
    assert status == 200, answer
    assert len(answer["data"][0]["embedding"]) > 0
    assert states(corral) == {"chat": "ready", "default": "stopped", "vectors": "ready"}
    assert once(url, "chat")[0] == 200
    assert once(url, "vectors")[0] == 400, "it does not generate"
    assert corral.deployment("vectors")["holds"], "what it holds is known too"
    corral("down")
    corral.nothing_is_left()
