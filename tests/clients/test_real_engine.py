"""What a real engine (llama.cpp) answers through the gateway to OpenAI's library."""

import json

import openai
import pytest

from e2e.program import Corral, base_url, post

pytestmark = pytest.mark.slow
HELLO = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": SCHEMA}}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    runner = Corral(tmp_path_factory.mktemp("corral") / "state")
    yield base_url(runner("up", "--detach", "--port", 0, "--context", 1024))
    runner.end()


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client, **more):
    return client.chat.completions.create(**{"model": "default", "messages": HELLO, "max_tokens": 8, **more})


def test_structured_output_is_what_the_schema_says(client):
    form = {"type": "json_schema", "json_schema": {"name": "paint", "schema": SCHEMA, "strict": True}}
    answer = json.loads(ask(client, response_format=form, max_tokens=80).choices[0].message.content)
    assert answer["colour"] in {"red", "blue"}
    assert 0 <= answer["n"] <= 9
    parts = ask(client, response_format=form, max_tokens=80, stream=True)
    streamed = json.loads("".join(part.choices[0].delta.content or "" for part in parts if part.choices))
    assert streamed.keys() == answer.keys()


def test_tools_and_their_results_are_taken(client):
    call = {"id": "1", "type": "function", "function": {"name": "paint", "arguments": '{"colour": "red", "n": 1}'}}
    turn = [*HELLO, {"role": "assistant", "content": "", "tool_calls": [call]}]
    turn.append({"role": "tool", "tool_call_id": "1", "content": "done"})
    for messages in (HELLO, turn):
        assert ask(client, messages=messages, tools=[TOOL]).usage.completion_tokens > 0


def test_log_probabilities(client):
    first = ask(client, logprobs=True, top_logprobs=3, max_tokens=2).choices[0].logprobs.content[0]
    assert len(first.top_logprobs) == 3
    assert first.logprob <= 0


def test_usage_where_it_is_asked_for_and_only_there(client):
    asked = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert asked[-1].usage.completion_tokens == 8
    assert asked[-1].usage.prompt_tokens > 0
    assert asked[-1].choices == []
    unasked = list(ask(client, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in unasked)
    assert ask(client).usage.completion_tokens == 8


def test_a_prompt_seen_before_is_cached(client):
    ask(client)
    assert ask(client).usage.prompt_tokens_details.cached_tokens > 0


def test_fields_that_openai_does_not_know(client):
    whole = ask(client, temperature=0, extra_body={"min_p": 0.1, "cache_prompt": False, "unheard_of": {"x": [1]}})
    assert whole.model_extra["timings"]["cache_n"] == 0  # it was understood
    assert ask(client, temperature=0, extra_body={"top_k": 1}).choices[0].message.content


def test_several_answers_and_stop_words(client):
    assert [choice.index for choice in ask(client, n=2).choices] == [0, 1]
    whole = ask(client, temperature=0, max_tokens=20).choices[0].message.content
    stopped = ask(client, temperature=0, max_tokens=20, stop=[whole.split()[2]]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content.split() == whole.split()[:2]


def test_completions_responses_and_messages(client, url):
    text = client.completions.create(model="default", prompt="Who", max_tokens=3)
    assert text.usage.completion_tokens == 3
    assert client.responses.create(model="default", input="Who?", max_output_tokens=5, store=False).output_text
    status, told = post(
        f"{url}/messages", json.dumps({"model": "default", "max_tokens": 5, "messages": HELLO}).encode()
    )
    assert (status, told["usage"]["output_tokens"]) == (200, 5)
    status, told = post(f"{url}/messages/count_tokens", json.dumps({"model": "default", "messages": HELLO}).encode())
    assert told["input_tokens"] > 0


def test_what_the_engine_cannot_do_it_says_in_openais_form(client, url):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "x " * 4000}])
    assert caught.value.code == "context_length_exceeded"
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with pytest.raises(openai.APIStatusError, match="image"):
        ask(client, messages=[{"role": "user", "content": [part]}])
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="default", input="x")
    status, told = post(f"{url}/rerank", json.dumps({"model": "default", "query": "x", "documents": ["a"]}).encode())
    assert status in {400, 501}
    assert told["error"]["message"]
    assert ask(client).choices
