"""OpenAI's Python library, as applications use it."""

import asyncio
import json
import time

import openai
import pydantic
import pytest

from clients import scripted
from clients.scripted import PERSON, VECTORS, WORDS, plays
from corral import credentials
from corral.gateway.desk.values import KeyLimits
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from gateway.conftest import eventually

HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Adds.",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
            },
        },
    }
]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture(autouse=True)
def playing(engine):
    engine.script = plays


def says(word):
    return [{"role": "user", "content": f"please {word}"}]


def last_body(engine):
    return json.loads(engine.calls[-1].body)


async def test_a_stream_with_usage(client):
    options = {"include_usage": True}
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True, stream_options=options)
    chunks = [chunk async for chunk in stream]
    assert [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content] == WORDS
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.total_tokens == 5
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 1


async def test_a_stream_without_usage_shows_none(client, engine):
    stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)


async def test_the_librarys_stream_manager(client):
    async with client.chat.completions.stream(model="m", messages=HELLO) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert [delta for delta in deltas if delta] == WORDS
    assert final.choices[0].message.content == "".join(WORDS)


async def test_a_tool_is_called_and_its_result_is_taken(client, engine):
    asked = await client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS, tool_choice="auto")
    assert asked.choices[0].finish_reason == "tool_calls"
    (call,) = asked.choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
    turn = [*HELLO, asked.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    answer = await client.chat.completions.create(model="m", messages=turn, tools=TOOLS)
    assert answer.choices[0].message.content == "".join(WORDS)
    sent = last_body(engine)
    assert sent["tools"] == TOOLS
    assert sent["messages"][1]["tool_calls"][0]["id"] == sent["messages"][2]["tool_call_id"] == "call_1"


async def test_a_tool_is_called_within_a_stream(client):
    stream = await client.chat.completions.create(model="m", messages=HELLO, tools=TOOLS, stream=True)
    parts = [c.choices[0].delta.tool_calls[0] async for c in stream if c.choices[0].delta.tool_calls]
    assert parts[0].function.name == "add"
    assert json.loads("".join(part.function.arguments for part in parts)) == {"a": 1, "b": 2}


async def test_structured_output(client, engine):
    parsed = await client.chat.completions.parse(model="m", messages=HELLO, response_format=Person)
    assert parsed.choices[0].message.parsed == Person(name="Ada", age=36)
    schema = last_body(engine)["response_format"]
    assert schema["type"] == "json_schema"
    assert schema["json_schema"]["schema"]["properties"]["age"] == {"title": "Age", "type": "integer"}
    again = await client.chat.completions.create(model="m", messages=HELLO, response_format=schema)
    assert again.choices[0].message.content == PERSON
    assert last_body(engine)["response_format"] == schema


async def test_log_probabilities(client, engine):
    answer = await client.chat.completions.create(model="m", messages=HELLO, logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs.content[0].top_logprobs[0].logprob == -1.5
    assert last_body(engine)["top_logprobs"] == 1


async def test_an_image_reaches_the_engine_as_it_was_sent(client, engine):
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])
    assert last_body(engine)["messages"][0]["content"] == content


async def test_fields_that_openai_does_not_know_pass_in_both_directions(client, engine):
    extra = {"top_k": 7, "chat_template_kwargs": {"enable_thinking": False}, "cache_prompt": True}
    answer = await client.chat.completions.create(model="m", messages=HELLO, extra_body=extra)
    assert extra.items() <= last_body(engine).items()
    assert answer.model_extra["timings"] == {"predicted_ms": 1.5}


@pytest.mark.parametrize("form", ["float", "base64", openai.omit])
async def test_embeddings(client, engine, gateway, form):
    gateway.table.set("e", Ready(replica_at(engine.url, "e", embeddings=True)))
    got = await client.embeddings.create(model="e", input=["one", "two"], encoding_format=form)
    asked = last_body(engine).get("encoding_format")
    assert asked == ("base64" if form is openai.omit else form)  # what the library asks for by itself
    vectors = [item.embedding for item in got.data]
    assert vectors == ([scripted.packed(vector) for vector in VECTORS] if form == "base64" else VECTORS)


async def test_completions_and_responses(client):
    text = await client.completions.create(model="m", prompt="hello", max_tokens=1)
    assert (text.choices[0].text, text.choices[0].finish_reason) == ("Hello", "length")
    assert (await client.responses.create(model="m", input="hello", store=False)).output_text == "Hello"


async def test_models(client):
    assert [model.id async for model in client.models.list()] == ["m"]
    assert (await client.models.retrieve("m")).object == "model"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_raw_answers_carry_the_request_id(client, engine):
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=HELLO, extra_headers={"X-Request-Id": "trace-7"}
    )
    assert (
        raw.headers["x-request-id"] == raw.parse()._request_id == engine.calls[-1].headers["x-request-id"] == "trace-7"
    )
    async with client.chat.completions.with_streaming_response.create(model="m", messages=HELLO, stream=True) as raw:
        assert raw.headers["x-request-id"].startswith("req-")
        assert raw.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("word", "kind", "code"),
    [
        ("refuse", openai.BadRequestError, None),
        ("break", openai.InternalServerError, None),
        ("die", openai.InternalServerError, "upstream_died"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_the_engine_are_the_librarys_own(client, word, kind, code, stream):
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="m", messages=says(word), stream=stream)
    assert caught.value.code == code
    assert caught.value.request_id


async def test_errors_of_the_gateway_are_the_librarys_own(client, base_url):
    with pytest.raises(openai.NotFoundError) as caught:
        await client.chat.completions.create(model="other", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="m", messages=HELLO, extra_body={"model": 7})
    with pytest.raises(openai.APIStatusError) as caught:
        await client.chat.completions.create(model="m", messages=says("x" * 1_000_000))
    assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")


async def test_a_stream_that_dies_raises(client):
    stream = await client.chat.completions.create(model="m", messages=says("die-in-stream"), stream=True)
    words = []
    with pytest.raises(openai.APIError, match="before its answer was complete"):
        words += [chunk.choices[0].delta.content async for chunk in stream]
    assert not words or words == ["Hello"]


@pytest.mark.parametrize(("word", "stream"), [("stall", False), ("stall", True), ("stall-in-stream", True)])
async def test_a_time_out_is_the_librarys_own_and_ends_the_engines_work(client, engine, word, stream):
    impatient = client.with_options(timeout=0.3)
    with pytest.raises(openai.APITimeoutError):
        async for _ in await impatient.chat.completions.create(model="m", messages=says(word), stream=True):
            pass
    await eventually(engine.calls[0].gone.is_set, 1)


async def test_a_stream_that_is_left_ends_the_engines_work(client, engine):
    async with await client.chat.completions.create(model="m", messages=says("stall-in-stream"), stream=True) as stream:
        assert (await anext(aiter(stream))).choices[0].delta.content == "Hello"
    await eventually(engine.calls[0].gone.is_set, 1)


@pytest.mark.parametrize(("status", "times"), [(503, 2), (429, 1)])
async def test_the_library_repeats_a_request_after_the_time_that_it_is_told(client, engine, status, times):
    async def busy_first(call):
        if len(engine.calls) <= times:
            await call.whole(
                status, b'{"error": {"message": "busy"}}', "Content-Type: application/json", "Retry-After: 1"
            )
        else:
            await plays(call)

    engine.script = busy_first
    began = time.monotonic()
    answer = await client.with_options(max_retries=times).chat.completions.create(model="m", messages=HELLO)
    assert answer.choices[0].message.content == "".join(WORDS)
    assert len(engine.calls) == times + 1
    assert times * 0.9 <= time.monotonic() - began < times * 1.0 + 3


async def test_the_library_gives_up_after_its_retries(client, engine):
    async def busy(call):
        await call.whole(429, b'{"error": {"message": "busy"}}', "Content-Type: application/json", "Retry-After: 0.05")

    engine.script = busy
    with pytest.raises(openai.RateLimitError):
        await client.with_options(max_retries=2).chat.completions.create(model="m", messages=HELLO)
    assert len(engine.calls) == 3


async def test_keys(engine):
    keys = Keyring()
    secret = credentials.new_secret()
    limits = KeyLimits(id="k", models=("m",))
    keys.replace([Entry(credentials.digest(secret.encode()), Identity("k", limits=limits))], configured=True)
    gateway = Gateway(keys=keys)
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    gateway.table.set("other", Ready(replica_at(engine.url, "other")))
    await gateway.start(port=0)
    base = {"base_url": f"http://127.0.0.1:{gateway.port}/v1", "max_retries": 0}
    try:
        async with openai.AsyncOpenAI(api_key=secret, **base) as keyed:
            assert (await keyed.chat.completions.create(model="m", messages=HELLO)).choices
            assert [model.id async for model in keyed.models.list()] == ["m"]
        async with openai.AsyncOpenAI(api_key="sk-wrong", **base) as wrong:
            with pytest.raises(openai.AuthenticationError) as caught:
                await wrong.chat.completions.create(model="m", messages=HELLO)
            assert "sk-wrong" not in str(caught.value)
        assert len(engine.calls) == 1
    finally:
        await gateway.stop(grace=0)


async def test_many_at_once_keep_their_answers_apart(client, engine):
    async def repeats(call):
        content = json.loads(call.body)["messages"][0]["content"]
        await asyncio.sleep(int(content) % 7 / 1000)
        await call.json(200, {**scripted.completion({"messages": [{"role": "user"}]}), "id": content})

    engine.script = repeats
    asked = [
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": str(i)}]) for i in range(100)
    ]
    assert [answer.id for answer in await asyncio.gather(*asked)] == [str(i) for i in range(100)]
