"""What LiteLLM's library makes of the server at BASE_URL: runs all of its checks; knows nothing of this project."""

import asyncio
import json
import os
import sys

import litellm

BASE = {"api_base": os.environ["BASE_URL"], "api_key": "none", "num_retries": 0, "max_retries": 0}
HELLO = [{"role": "user", "content": "hello"}]
WORDS = ["Hello", ", ", "wörld"]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]


def ask(messages=HELLO, model="openai/m", **more):
    return litellm.completion(model=model, messages=messages, **BASE, **more)


def completes():
    answer = ask(extra_body={"top_k": 7})
    assert answer.choices[0].message.content == "".join(WORDS)
    assert answer.usage.total_tokens == 5


def streams():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "".join(WORDS)
    assert chunks[-1].usage.total_tokens == 5


def streams_asynchronously():
    async def words():
        stream = await litellm.acompletion(model="openai/m", messages=HELLO, stream=True, **BASE)
        return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]

    assert "".join(word or "" for word in asyncio.run(words())) == "".join(WORDS)


def calls_tools():
    (call,) = ask(tools=TOOLS).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
    turn = [*HELLO, {"role": "assistant", "tool_calls": [call.model_dump()]}]
    turn.append({"role": "tool", "tool_call_id": call.id, "content": "3"})
    assert ask(turn, tools=TOOLS).choices[0].message.content == "".join(WORDS)
    rebuilt = litellm.stream_chunk_builder(list(ask(tools=TOOLS, stream=True)))
    assert json.loads(rebuilt.choices[0].message.tool_calls[0].function.arguments) == {"a": 1, "b": 2}


def gives_structure():
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    format_ = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    assert json.loads(ask(response_format=format_).choices[0].message.content) == {"name": "Ada", "age": 36}


def embeds():
    got = litellm.embedding(model="openai/e", input=["one", "two"], **BASE)
    assert [item["embedding"] for item in got.data] == [[0.5, -1.0, 0.25], [1.0, 2.0, 3.0]]


def knows_errors():
    for word, model, kind in [
        ("hello", "openai/other", litellm.NotFoundError),
        ("refuse", "openai/m", litellm.BadRequestError),
        ("break", "openai/m", litellm.InternalServerError),
    ]:
        try:
            ask([{"role": "user", "content": f"please {word}"}], model)
        except kind:
            continue
        raise AssertionError(word)


def raises_in_mid_stream():
    seen = []
    try:
        for chunk in ask([{"role": "user", "content": "please die-in-stream"}], stream=True):
            seen.append(chunk)  # noqa: PERF402 - what came before the error counts
    except litellm.exceptions.MidStreamFallbackError as error:
        if "before its answer was complete" in str(error):
            return
    raise AssertionError(seen)


def times_out():
    try:
        ask([{"role": "user", "content": "please stall"}], timeout=0.5)
    except litellm.Timeout:
        return
    raise AssertionError


for check in (
    completes,
    streams,
    streams_asynchronously,
    calls_tools,
    gives_structure,
    embeds,
    knows_errors,
    raises_in_mid_stream,
    times_out,
):
    check()
    sys.stdout.write(f"passed {check.__name__}\n")
