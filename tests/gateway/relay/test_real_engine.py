"""The gateway before llama.cpp itself: what it answers, streams, counts and refuses."""

import asyncio
import json
import subprocess
import sys

import aiohttp
import pytest

from corral.engines.llamacpp import LlamaCpp
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.models.inspect import inspect
from engines.llamacpp_gang import Gang, free_port
from engines.llamacpp_samples import placement, sites
from gateway.conftest import eventually, sample

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
ASKED = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def engine_port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    model = folder / "demo.gguf"
    subprocess.run([sys.executable, "-m", "corral.models.demo", "--format", "gguf", str(model)], check=True, timeout=60)
    engine = LlamaCpp()
    asked = placement("a", model=inspect(model), context=256, concurrency=2, threads=1, dtype="float32")
    (site,) = sites(asked).values()
    port = free_port()
    here = {"environment": sys.prefix, "scratch": str(folder), "model": str(model), "ports": {"api": port}}
    with Gang(engine.launch(asked, {"a": site.model_copy(update=here)}), folder, lambda _, argv: argv) as gang:
        gang.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})
        yield port


@pytest.fixture
async def before(engine_port):
    """A gateway before the engine, and a session to it."""
    gateway = Gateway()
    gateway.table.set("demo", Ready(replica_at(f"http://127.0.0.1:{engine_port}", "demo")))
    await gateway.start(port=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
        yield gateway, session
    await gateway.stop(0)


async def post(session, **fields):
    async with session.post(CHAT, json=ASKED | fields) as response:
        return response.status, await response.read()


def events(text):
    return [json.loads(part[6:]) for part in text.decode().split("\n\n") if part.startswith("data: {")]


async def test_a_stream_says_what_a_whole_answer_says_and_counts_the_same(before):
    gateway, session = before
    _, whole = await post(session)
    whole = json.loads(whole)
    _, plain = await post(session, stream=True)
    _, asked = await post(session, stream=True, stream_options={"include_usage": True})
    assert plain.endswith(b"data: [DONE]\n\n")
    assert all(event["choices"] for event in events(plain))
    *said, counted = events(asked)
    assert counted["choices"] == []
    assert counted["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == 8
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events(plain))
    assert text == whole["choices"][0]["message"]["content"]
    assert len(said) == len(events(plain))
    await eventually(lambda: sample(gateway, "tokens_total", model="demo", kind="output") == 24)
    prompts = 3 * whole["usage"]["prompt_tokens"]
    assert sample(gateway, "tokens_total", model="demo", kind="prompt") == prompts
    assert sample(gateway, "ttft_seconds_count", model="demo") == 2


async def test_a_context_that_is_too_long_has_openais_code(before):
    _, session = before
    status, body = await post(session, messages=[{"role": "user", "content": "word " * 2000}])
    assert (status, json.loads(body)["error"]["code"]) == (400, "context_length_exceeded")


async def test_many_at_once_are_all_answered(before):
    _, session = before
    answers = await asyncio.gather(*(post(session, stream=number % 2 == 0) for number in range(24)))
    assert {status for status, _ in answers} == {200}
