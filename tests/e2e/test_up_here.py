"""`corral up` on this machine, as a person types it: it serves, tells, and leaves nothing."""

import json

import openai
import pytest

from e2e.program import base_url, post

pytestmark = pytest.mark.slow
DETACHED = ("up", "--detach", "--port", 0, "--context", 512)


def client(told):
    return openai.OpenAI(base_url=base_url(told), api_key="none", max_retries=0, timeout=30)


def say(told, model="default", **options):
    asked = [{"role": "user", "content": "Who are you?"}]
    with client(told) as openai_client:
        answer = openai_client.chat.completions.create(model=model, messages=asked, max_tokens=8, **options)
        return list(answer) if options.get("stream") else answer


def models(told):
    with client(told) as openai_client:
        return {model.id for model in openai_client.models.list()}


def test_a_model_without_a_name_answers_the_openai_client_and_leaves_nothing(corral):
    told = corral(*DETACHED)
    whole = say(told, temperature=0)
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0

    parts = say(told, temperature=0, stream=True, stream_options={"include_usage": True})
    streamed = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert streamed == whole.choices[0].message.content
    assert parts[-1].usage == whole.usage or parts[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert models(told) == {"default"}

    status = corral.json("status")
    assert status["schema"] == "corral.status/1"
    assert [d["state"] for d in status["deployments"]] == ["ready"]
    shown = corral("status").stdout
    assert "default" in shown
    assert "llamacpp" in shown
    assert corral("logs").stdout
    assert corral.json("events")["schema"] == "corral.events/1"
    assert "deployment.ready" in corral("events").stdout

    assert corral.json("down") == {"schema": "corral.down/1", "ended": ["default"], "left": {}}
    corral.nothing_is_left()
    assert "Nothing runs." in corral("down").stderr
    assert corral.json("status")["deployments"] == []
    corral.nothing_is_left()


def test_up_tells_programs_one_json_document_and_pipes_no_escape_codes(corral):
    told = corral(*DETACHED, "--json")
    assert json.loads(told.stdout)["schema"] == "corral.up/1"
    for command in ("status", "events", "logs", "down"):
        told = corral(command)
        assert "\x1b" not in told.stdout + told.stderr, command


def test_two_models_are_served_at_one_endpoint_and_end_one_by_one(corral):
    told = corral(*DETACHED, "--name", "one")
    beside = corral("up", "--detach", "--context", 512, "--name", "team/two:v1")
    assert base_url(told) == base_url(beside)
    assert models(told) == {"one", "team/two:v1"}
    assert say(told, "one").choices
    assert say(told, "team/two:v1").choices
    corral("down", "one")
    with pytest.raises(openai.NotFoundError):
        say(told, "one")
    assert say(told, "team/two:v1").choices
    corral("down")
    corral.nothing_is_left()


def test_a_second_up_of_the_same_name_is_refused_and_the_first_serves_on(corral):
    told = corral(*DETACHED)
    cause, remedy = corral.refused(*DETACHED, status=1)
    assert "default is already ready" in cause
    assert "corral down default" in remedy
    assert say(told).choices


def test_a_port_other_than_the_running_head_s_is_refused(corral):
    told = corral(*DETACHED)
    port = int(base_url(told).rpartition(":")[2].partition("/")[0])
    cause, _ = corral.refused("up", "--name", "other", "--port", port + 1, status=1)
    assert f":{port}" in cause
    assert corral.state("other") is None
    assert say(told).choices


def test_five_quick_cycles_leave_nothing(corral):
    for _ in range(5):
        corral(*DETACHED)
        corral("down")
        corral.nothing_is_left()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, ""),
        (b'{"model": "nobody", "messages": []}', 404, "nobody"),
        (b'{"model": "default", "messages": "no list"}', 400, ""),
        (json.dumps({"model": "default", "messages": [{"role": "user", "content": "x " * 4000}]}).encode(), 400, ""),
    ],
)
def test_a_wrong_request_is_answered_in_openai_s_form_and_the_next_one_is_served(served, body, status, says):
    code, told = post(f"{served}/chat/completions", body)
    assert code == status, told
    assert says in told["error"]["message"]
    good = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    assert post(f"{served}/chat/completions", json.dumps(good).encode())[0] == 200


@pytest.fixture(scope="module")
def served(module_corral):
    """The endpoint of one deployment that the tests of requests share."""
    return base_url(module_corral(*DETACHED))
