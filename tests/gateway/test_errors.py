"""Each way in which a request can fail, as a client sees it."""

import asyncio
import io
import json
import re
import socket

import aiohttp
import openai
import pytest

from corral.gateway.table import Failed, Loading, Ready, replica_at
from gateway.conftest import eventually, sample
from gateway.test_forwarding import event

CHAT = "/v1/chat/completions"


async def error_of(response):
    assert response.headers["content-type"] == "application/json"
    fields = (await response.json())["error"]
    assert set(fields) == {"message", "type", "param", "code"}
    return fields


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (b'{"model": "m"', "truncated"),
        (b"[]", "it is an array"),
        (b"null", "it is null"),
        (b"7", "it is a number"),
        (b"true", "it is a truth value"),
        (b'"m"', "it is a string"),
        (b'{"model": "\xff"}', "it is not UTF-8 at byte 11"),
        ('{"model": "m"}'.encode("utf-16"), "it is not UTF-8"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"n": NaN}', "invalid character (byte 6)"),
    ],
)
async def test_a_body_that_is_no_json_object(http, engine, body, said):
    async with http.post(CHAT, data=body) as response:
        assert response.status == 400
        error = await error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "invalid_json"
    assert said in error["message"]
    assert not engine.calls


async def test_a_model_that_is_no_string(http):
    async with http.post(CHAT, data=b'{"model": 1}') as response:
        assert response.status == 400
        assert (await error_of(response))["param"] == "model"


async def test_no_model_when_several_could_be_meant(http, gateway):
    gateway.table.set("n", Loading("weights"))
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 400
        error = await error_of(response)
    assert error["code"] == "missing_model"
    assert "m, n" in error["message"]


async def test_an_unknown_model(client, engine):
    with pytest.raises(openai.NotFoundError, match=r"'other' does not exist; this server has m\.") as caught:
        await client.chat.completions.create(model="other", messages=[])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert not engine.calls


async def test_no_model_at_all(http, gateway):
    gateway.table.remove("m")
    async with http.post(CHAT, data=b'{"model": "m"}') as response:
        assert response.status == 404
        assert "this server has none yet" in (await error_of(response))["message"]


async def test_an_unknown_model_with_an_endless_name_is_quoted_in_part(http):
    async with http.post(CHAT, data=json.dumps({"model": "x" * 100_000}).encode()) as response:
        assert response.status == 404
        assert len((await error_of(response))["message"]) < 300


async def test_retrieving_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_a_model_that_loads_for_longer_than_a_silent_client_can_wait(http, gateway, monkeypatch):
    monkeypatch.setattr("corral.gateway.forwarding.WHOLE_PATIENCE", 0.2)
    gateway.table.set("m", Loading("reading weights", 0.25))
    async with http.post(CHAT, data=b'{"model": "m"}') as response:
        assert response.status == 503
        assert int(response.headers["retry-after"]) > 0
        error = await error_of(response)
    assert error["code"] == "model_loading"
    assert error["message"].startswith("The model 'm' is still loading: reading weights (25%).")


async def test_a_client_of_a_stream_is_told_how_far_its_model_is(http, gateway, engine):
    gateway.front.forwarding.heartbeat = 0.02
    gateway.table.set("m", Loading("weights", 0.25, 8.0))
    engine.script = streams_two
    async with http.post(CHAT, data=b'{"model": "m", "stream": true}') as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert await response.content.readuntil(b"\n\n") == b": m loads: weights, 25%, about 8 s\n\n"
        gateway.table.set("m", Ready(replica_at(engine.url, "m")))
        rest = await response.read()
    assert re.sub(rb"(?m)^: .+\n\n", b"", rest) == b"data: 1\n\ndata: 2\n\n"


async def test_a_model_that_fails_while_a_client_waits_ends_its_stream_with_an_error(gateway, client):
    gateway.front.forwarding.heartbeat = 0.02
    gateway.table.set("m", Loading("weights"))
    stream = await client.chat.completions.create(model="m", messages=[], stream=True)
    gateway.table.set("m", Failed("rank-1 ran out of memory."))
    with pytest.raises(openai.APIError, match=r"rank-1 ran out of memory\."):
        async for _ in stream:
            pass


async def streams_two(call):
    await call.stream()
    await call.chunk(b"data: 1\n\n")
    await call.chunk(b"data: 2\n\n")
    await call.end()


async def test_a_client_of_openai_waits_for_a_model_that_is_loading(gateway, engine):
    gateway.table.set("m", Loading("weights"))
    asyncio.get_running_loop().call_later(0.3, gateway.table.set, "m", Ready(replica_at(engine.url, "m")))
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x") as client:
        await client.chat.completions.create(model="m", messages=[])
    assert len(engine.calls) == 1


async def test_a_model_that_failed(http, gateway):
    gateway.table.set("m", Failed("rank-1 ran out of memory."))
    async with http.post(CHAT, data=b'{"model": "m"}') as response:
        assert response.status == 503
        assert response.headers["x-should-retry"] == "false"
        error = await error_of(response)
    assert (error["code"], error["message"]) == (
        "model_failed",
        "The model 'm' is not running: rank-1 ran out of memory.",
    )


async def test_a_chat_with_a_model_that_only_embeds(http, gateway, engine):
    gateway.table.set("e", Ready(replica_at(engine.url, "e", embeddings=True)))
    async with http.post(CHAT, data=b'{"model": "e"}') as response:
        assert response.status == 400
        assert (await error_of(response))["code"] == "unsupported_model"


async def test_an_engine_that_is_not_there(http, gateway):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gateway.table.set("m", Ready(replica_at(f"http://127.0.0.1:{closed.getsockname()[1]}", "m")))
        async with http.post(CHAT, data=b'{"model": "m"}') as response:
            assert response.status == 502
            assert (await error_of(response))["code"] == "upstream_unreachable"


async def dies_at_once(call):
    call.die()


async def dies_after_the_headers(call):
    await call.stream()
    call.die()


async def dies_in_a_body_of_known_length(call):
    await call.head(200, "Content-Type: application/json", "Content-Length: 100")
    await call.raw(b'{"half')
    call.die()


async def dies_in_a_chunked_body(call):
    await call.head(200, "Content-Type: application/json", "Transfer-Encoding: chunked")
    await call.chunk(b'{"half')
    call.writer.close()


async def speaks_no_http(call):
    await call.raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    call.die()


async def redirects(call):
    await call.whole(307, b"", "Location: http://127.0.0.1:9/elsewhere")


@pytest.mark.parametrize(
    "script",
    [
        dies_at_once,
        dies_after_the_headers,
        dies_in_a_body_of_known_length,
        dies_in_a_chunked_body,
        speaks_no_http,
        redirects,
    ],
)
async def test_an_engine_that_does_not_finish_is_a_502_and_asked_once(http, engine, script):
    engine.script = script
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 502
        assert (await error_of(response))["code"] == "upstream_died"
    assert len(engine.calls) == 1


async def test_an_engine_that_dies_between_two_requests_on_one_connection(http, engine, gateway):
    gateway.table.set("m", Ready(replica_at(engine.url, "m", keep_alive=True)))
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 200
    engine.script = dies_at_once
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 502
    assert len(engine.calls) == 2  # what may have run is not sent again


async def test_a_stream_whose_engine_dies_raises_in_the_client(client, engine):
    async def answer(call):
        await call.stream()
        await call.chunk(event("one"))
        await seen.wait()
        call.die()

    engine.script = answer
    seen = asyncio.Event()
    words = []
    stream = await client.chat.completions.create(model="m", messages=[], stream=True)

    async def read():
        async for chunk in stream:
            words.append(chunk.choices[0].delta.content)
            seen.set()

    with pytest.raises(openai.APIError, match="ended the connection before its answer was complete"):
        await read()
    assert words == ["one"]


async def test_a_stream_cut_within_an_event_ends_it_before_the_error(http, engine):
    async def answer(call):
        await call.stream()
        await call.chunk(b'data: {"cut')
        await seen.wait()
        call.die()

    engine.script = answer
    seen = asyncio.Event()
    async with http.post(CHAT, data=b"{}") as response:
        assert await response.content.readany() == b'data: {"cut'
        seen.set()
        rest = (await response.read()).split(b"\n\n")
    assert rest[0] == rest[2] == b""
    assert json.loads(rest[1].removeprefix(b"data: "))["error"]["code"] == "upstream_died"


async def test_a_long_body_cut_short_is_seen_as_cut_short(http, engine):
    async def answer(call):
        await call.head(200, "Content-Type: application/json", "Transfer-Encoding: chunked")
        await call.chunk(b"x" * 2_000_000)
        await seen.wait()
        call.die()

    engine.script = answer
    seen = asyncio.Event()
    async with http.post(CHAT, data=b"{}") as response:
        await response.content.readexactly(1_000_000)
        seen.set()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_an_engines_refusal_is_in_openais_form(client, engine):
    async def answer(call):
        message = "request (5001 tokens) exceeds the available context size (4096 tokens), try increasing it"
        fields = {"code": 400, "message": message, "type": "exceed_context_size_error", "n_ctx": 4096}
        await call.json(400, {"error": fields})

    engine.script = answer
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size") as caught:
        await client.chat.completions.create(model="m", messages=[], stream=True)
    assert caught.value.code == "context_length_exceeded"


async def test_an_engines_retry_after_is_passed_on(http, engine):
    async def answer(call):
        await call.whole(429, b'{"error": {"message": "slow down"}}', "Retry-After: 7")

    engine.script = answer
    async with http.post(CHAT, data=b"{}") as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")
        assert (await error_of(response))["message"] == "slow down"


async def test_an_engines_refusal_without_end_is_read_in_part(http, engine):
    async def answer(call):
        await call.head(500, "Content-Type: text/plain", "Transfer-Encoding: chunked")
        while True:
            await call.chunk(b"x" * 65536)

    engine.script = answer
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 500
        assert len((await error_of(response))["message"]) <= 2000


async def declared(size):
    return {"data": io.BytesIO(b"x" * size)}


async def undeclared(size):
    async def parts():
        for _ in range(0, size, 65536):
            yield b"x" * 65536

    return {"data": parts()}


@pytest.mark.parametrize("upload", [declared, undeclared])
async def test_a_body_over_the_limit(http, engine, upload):
    async with http.post(CHAT, **await upload(1_100_000)) as response:
        assert response.status == 413
        error = await error_of(response)
    assert (error["code"], "976.6 KiB" in error["message"]) == ("request_too_large", True)
    assert not engine.calls


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", CHAT, "POST, OPTIONS"), ("DELETE", "/v1/models/m", "GET, HEAD, OPTIONS"), ("POST", "/healthz", None)],
)
async def test_a_wrong_method(http, method, path, allowed):
    async with http.request(method, path) as response:
        assert response.status == 405
        assert response.headers["allow"] == allowed or allowed is None
        assert (await error_of(response))["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/load_lora_adapter", "/slots", f"{CHAT}/", "/V1/models"])
async def test_an_unknown_path_is_never_forwarded(http, engine, path):
    async with http.post(path, data=b'{"model": "m"}') as response:
        assert response.status == 404
        assert (await error_of(response))["code"] == "unknown_url"
    assert not engine.calls


@pytest.mark.parametrize("path", ["/v1/../slots", "/v1/chat/../../slots", "//v1/models", "/v1/models/../../slots"])
async def test_a_path_that_climbs_is_never_forwarded(gateway, engine, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert (await reader.readline()).split()[1] in {b"404", b"405"}
    writer.close()
    assert not engine.calls


async def test_a_forgotten_v1_is_pointed_out(http):
    async with http.post("/chat/completions", data=b"{}") as response:
        assert "Use /v1/chat/completions." in (await error_of(response))["message"]


async def test_a_bug_of_the_gateways_own_is_a_500_and_logged_under_its_id(http, gateway, monkeypatch, caplog):
    def broken(_ask):
        raise ZeroDivisionError

    monkeypatch.setattr(gateway.admission, "arrive", broken)
    async with http.post(CHAT, data=b"{}", headers={"X-Request-Id": "r-1"}) as response:
        assert response.status == 500
        assert (await error_of(response))["code"] == "internal_error"
    assert "Request r-1 failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_failures_are_counted_by_their_code(http, engine, gateway):
    engine.script = dies_at_once
    async with http.post(CHAT, data=b"{}"):
        pass
    await eventually(lambda: sample(gateway, "upstream_errors_total", model="m", code="upstream_died") == 1)
    assert sample(gateway, "requests_total", model="m", route=CHAT, status="5xx") == 1
    assert sample(gateway, "in_flight", model="m") == 0
