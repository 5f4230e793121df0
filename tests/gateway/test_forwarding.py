"""What crosses the gateway, in both directions, when all goes well."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.gateway.table import Ready, replica_at

CHAT = "/v1/chat/completions"
COMPLETION = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    "timings": {"an engine's own": "field"},
}


def event(text: str) -> bytes:
    delta = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    delta["choices"] = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return b"data: " + json.dumps(delta).encode() + b"\n\n"


async def test_the_openai_client_gets_its_completion(client, engine):
    async def answer(call):
        await call.json(200, COMPLETION)

    engine.script = answer
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=[{"role": "user", "content": "hi"}], extra_body={"top_k": 7}
    )
    assert raw.parse().choices[0].message.content == "hello"
    assert raw.parse().model_extra["timings"] == {"an engine's own": "field"}
    assert json.loads(engine.calls[0].body)["top_k"] == 7
    assert raw.headers["x-request-id"] == engine.calls[0].headers["x-request-id"]


async def test_the_openai_client_gets_each_chunk_as_it_comes(client, engine):
    async def answer(call):
        await call.stream()
        for word in ("one ", "two ", "three"):
            await call.chunk(event(word))
            await call.gate.wait()
            call.gate.clear()
        await call.chunk(b"data: [DONE]\n\n")
        await call.end()

    def gated(call):
        import asyncio

        call.gate = asyncio.Event()
        return answer(call)

    engine.script = gated
    words = []
    stream = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
    async for chunk in stream:
        words.append(chunk.choices[0].delta.content)
        engine.calls[0].gate.set()  # the engine goes on only once the chunk has arrived
    assert words == ["one ", "two ", "three"]


async def test_embeddings(client, engine, gateway):
    async def answer(call):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        await call.json(200, {"object": "list", "data": data, "model": "e", "usage": usage})

    engine.script = answer
    gateway.table.set("e", Ready(replica_at(engine.url, "e", embeddings=True)))
    got = await client.embeddings.create(model="e", input="text", encoding_format="float")
    assert got.data[0].embedding == [0.5, 1.0]
    assert engine.calls[0].path == "/v1/embeddings"


async def test_models_are_the_ready_ones(client, gateway):
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed] == ["m"]
    assert listed[0].owned_by == "corral"
    gateway.table.set("org/name", Ready(replica_at("http://127.0.0.1:9", "org/name")))
    assert (await client.models.retrieve("org/name")).id == "org/name"


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages", "/v1/rerank"])
async def test_the_body_arrives_untouched_under_the_same_path(http, engine, path):
    body = b'{ "model" : "m",\n "x\\u00e9": 1e400, "z": [1,  2], "text": "\xc3\xa9" }'

    async def answer(call):
        await call.whole(200, call.body, "Content-Type: application/json")

    engine.script = answer
    async with http.post(f"{path}?beta=true", data=body) as response:
        assert await response.read() == body
    assert engine.calls[0].path == path


async def test_only_what_the_engine_needs_is_told_to_it(http, engine, gateway):
    gateway.table.set("m", Ready(replica_at(engine.url, "m", headers=(("Authorization", "Bearer engine"),))))
    sent = {
        "Authorization": "Bearer client",
        "Cookie": "a=b",
        "X-Request-Id": "mine-1",
        "traceparent": "00-ab-cd-01",
        "Accept-Encoding": "gzip",
        "Content-Type": "text/plain",
        "X-Forwarded-For": "1.2.3.4",
    }
    async with http.post(CHAT, data=b'{"model": "m"}', headers=sent) as response:
        assert response.headers["x-request-id"] == "mine-1"
        seen = (await response.json())["headers"]
    assert seen.pop("user-agent").startswith("Python/")
    assert seen == {
        "host": f"127.0.0.1:{engine.port}",
        "accept": "*/*",
        "accept-encoding": "identity",
        "authorization": "Bearer engine",
        "connection": "close",
        "content-length": "14",
        "content-type": "application/json",
        "traceparent": "00-ab-cd-01",
        "x-request-id": "mine-1",
    }


async def test_only_what_concerns_the_client_comes_back(http, engine):
    async def answer(call):
        await call.whole(
            200, b"{}", "Content-Type: application/json", "Server: engine", "Set-Cookie: a=b", "Keep-Alive: timeout=5",
            "Connection: keep-alive, X-Hop", "X-Hop: 1", "Access-Control-Allow-Origin: *", "X-Kept: yes",
        )  # fmt: skip

    engine.script = answer
    async with http.post(CHAT, data=b'{"model": "m"}') as response:
        names = {name.lower() for name in response.headers}
        assert names == {"date", "content-type", "content-length", "x-kept", "x-request-id"}


async def test_a_request_id_that_could_do_harm_is_replaced(http, engine):
    async with http.post(CHAT, data=b'{"model": "m"}', headers={"X-Request-Id": 'a"b' * 9}) as response:
        assert response.headers["x-request-id"].startswith("req-")
    assert engine.calls[0].headers["x-request-id"] == response.headers["x-request-id"]


async def test_without_a_model_the_only_one_is_meant(http, engine):
    for body in (b"{}", b'{"model": null}', b'{"model": ""}'):
        async with http.post(CHAT, data=body) as response:
            assert response.status == 200
    assert [call.body for call in engine.calls] == [b"{}", b'{"model": null}', b'{"model": ""}']


@pytest.mark.parametrize(("keep_alive", "connections"), [(False, 5), (True, 1)])
async def test_connections_are_used_again_where_the_engine_copes(http, engine, gateway, keep_alive, connections):
    gateway.table.set("m", Ready(replica_at(engine.url, "m", keep_alive=keep_alive)))
    for _ in range(5):
        async with http.post(CHAT, data=b"{}") as response:
            await response.read()
    assert engine.accepted == connections


async def test_a_long_answer_that_is_no_stream_passes_whole(http, engine):
    body = b'"' + bytes(5_000_000).replace(b"\0", b"x") + b'"'

    async def answer(call):
        await call.whole(200, body)

    engine.script = answer
    async with http.post(CHAT, data=b"{}") as response:
        assert response.headers["content-length"] == str(len(body))
        assert await response.read() == body


async def test_a_long_answer_of_unknown_length_passes_whole(http, engine):
    part = bytes(100_000).replace(b"\0", b"x")

    async def answer(call):
        await call.head(200, "Content-Type: audio/wav", "Transfer-Encoding: chunked")
        for _ in range(30):
            await call.chunk(part)
        await call.end()

    engine.script = answer
    async with http.post(CHAT, data=b"{}") as response:
        assert await response.read() == part * 30


async def test_a_large_request_passes_whole(http, engine):
    body = json.dumps({"model": "m", "image": "x" * 900_000}).encode()
    async with http.post(CHAT, data=body) as response:
        assert response.status == 200
    assert engine.calls[0].body == body


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_stream_arrives_byte_by_byte_the_same_however_it_is_cut(http, engine, data):
    stream = data.draw(st.binary(max_size=400), label="bytes")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20), label="cuts"))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    async def answer(call):
        await call.stream()
        for piece in pieces:
            if piece:
                await call.chunk(piece)
        await call.end()

    engine.script = answer
    async with http.post(CHAT, data=b'{"stream": true}') as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert await response.read() == stream
