"""Starting, stopping, and the places where it will not listen."""

import asyncio
import json
import os
import re
import signal
import socket
import sys

import aiohttp
import pytest

from corral.errors import BadInput, ExitCode
from corral.gateway.front import FrontSettings
from corral.gateway.server import Gateway
from corral.gateway.table import Failed, Loading, Ready, Table, replica_at
from corral.gateway.wire import sockets
from gateway.conftest import eventually, sample
from gateway.fake_engine import never_answers, streams_for_ever


async def test_a_port_in_use_names_who_holds_it(gateway):
    other = Gateway()
    with pytest.raises(BadInput) as caught:
        await other.start(port=gateway.port)
    pid = os.getpid()
    assert re.fullmatch(rf"Port {gateway.port} on 127\.0\.0\.1 is in use by .+ \(pid {pid}\)\.", caught.value.cause)
    assert "--port" in caught.value.remedy
    assert caught.value.code == ExitCode.MISUSE
    await other.start(port=0)  # a failed start can be tried again
    await other.stop(0)


async def test_a_port_in_use_by_one_that_cannot_be_seen(gateway, monkeypatch):
    monkeypatch.setattr(sockets, "holder", lambda _port: None)
    with pytest.raises(BadInput, match=rf"Port {gateway.port} on 127\.0\.0\.1 is in use\. "):
        await Gateway().start(port=gateway.port)


def test_nobody_holds_a_free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert sockets.holder(bound.getsockname()[1]) is None


@pytest.mark.parametrize(
    ("host", "port", "cause"),
    [
        ("127.0.0.1", 70000, "70000 is no port."),
        ("127.0.0.1", -1, "-1 is no port."),
        ("0.0.0.0", 0, "no keys yet"),
        ("::", 0, "no keys yet"),
        ("no.such.host.invalid", 0, "no address of this machine"),
    ],
)
async def test_places_where_it_does_not_listen(host, port, cause):
    with pytest.raises(BadInput, match=re.escape(cause)):
        await Gateway().start(host, port)


async def test_an_address_that_is_another_machines():
    with pytest.raises(BadInput, match=r"192\.0\.2\.1 is no address of this machine"):
        await Gateway(allow_unkeyed=True).start("192.0.2.1", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open any port")
async def test_a_port_for_root_only():
    with pytest.raises(BadInput, match="reserved for root"):
        await Gateway().start(port=80)


async def test_elsewhere_than_loopback_when_allowed():
    gateway = Gateway(allow_unkeyed=True)
    await gateway.start("0.0.0.0", 0)
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{gateway.port}/healthz") as response:
        assert response.status == 200
    await gateway.stop(0)


async def test_localhost_is_every_loopback_address_on_one_port():
    gateway = Gateway()
    await gateway.start("localhost", 0)
    for address in {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}:
        _, writer = await asyncio.open_connection(address, gateway.port)
        writer.close()
    await gateway.stop(0)


async def test_signals_stay_the_processs_own():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    gateway = Gateway()
    await gateway.start(port=0)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    await gateway.stop(0)


async def test_alive_and_ready(http, gateway):
    async with http.get("/healthz") as response:
        assert response.status == 200
    gateway.table.set("n", Loading("weights", 0.5))
    gateway.table.set("f", Failed("no memory"))
    async with http.get("/readyz") as response:
        assert response.status == 200
    gateway.table.remove("m")
    async with http.get("/readyz") as response:
        assert response.status == 503
        assert await response.json() == {
            "ready": False,
            "deployments": {
                "n": {"state": "loading", "stage": "weights", "fraction": 0.5},
                "f": {"state": "failed", "cause": "no memory"},
            },
        }
    async with http.get("/v1/models") as response:
        assert (await response.json())["data"] == []


async def test_metrics_are_prometheus_text_with_bounded_labels(http, gateway):
    for name in ("m", "x" * 50, "y" * 50):
        async with http.post("/v1/chat/completions", data=json.dumps({"model": name})):
            pass
    for path in ("/a", "/b", "/v1/models/c"):
        async with http.get(path):
            pass
    async with http.get("/metrics") as response:
        assert response.headers["content-type"].startswith("text/plain; version=")
        text = await response.text()
    assert set(re.findall(r'model="([^"]*)"', text)) == {"", "m"}
    assert set(re.findall(r'route="([^"]*)"', text)) == {"none", "/v1/chat/completions", "/v1/models"}
    assert "process_resident_memory_bytes" in text
    assert 'corral_gateway_request_bytes_total{key="",model="m",replica="m"} 14.0' in text


async def test_the_time_to_the_first_token_is_measured_for_streams(gateway, engine, ask):
    async def speaks(call):
        await call.stream()
        await call.chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
        await call.gone.wait()

    engine.script = speaks
    reader, writer = await ask()
    await reader.readuntil(b'"a"')
    writer.close()
    labels = {"model": "m", "replica": "m", "key": ""}
    await eventually(lambda: sample(gateway, "ttft_seconds_count", **labels) == 1)
    assert 0 < sample(gateway, "ttft_seconds_sum", **labels) < 5


async def test_the_access_log_is_one_json_line_without_prompts(engine, caplog):
    gateway = Gateway(FrontSettings(access_log=True))
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    caplog.set_level("INFO", "corral.gateway.access")
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{gateway.port}/v1/completions",
            data=b'{"prompt": "my secret"}',
            headers={"Authorization": "Bearer key"},
        ) as response,
    ):
        request_id = response.headers["x-request-id"]
    await gateway.stop(0)
    (record,) = [record for record in caplog.records if record.name == "corral.gateway.access"]
    line = json.loads(record.getMessage())
    assert (line["request_id"], line["model"], line["status"], line["path"]) == (
        request_id,
        "m",
        200,
        "/v1/completions",
    )
    assert "secret" not in caplog.text
    assert "Bearer" not in caplog.text


async def test_nothing_is_logged_by_default(http, engine, caplog):
    caplog.set_level("INFO")
    async with http.post("/v1/chat/completions", data=b"{}"):
        pass
    assert not [record for record in caplog.records if record.name.startswith(("corral", "uvicorn"))]


async def test_stopping_lets_running_requests_end(gateway, engine, ask):
    release = asyncio.Event()

    async def answers_later(call):
        await release.wait()
        await call.json(200, {"late": True})

    engine.script = answers_later
    reader, _ = await ask()
    await eventually(lambda: engine.calls)
    stopping = asyncio.create_task(gateway.stop(grace=10))
    await eventually(lambda: refuses(gateway.port))
    release.set()
    assert b'{"late": true}' in await reader.read()
    await stopping


async def test_after_the_grace_a_waiting_client_is_told_why(gateway, engine, ask):
    engine.script = never_answers
    reader, _ = await ask()
    await eventually(lambda: engine.calls)
    await gateway.stop(grace=0.05)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"code": "server_stopping"' in answer
    await eventually(engine.calls[0].gone.is_set)


async def test_after_the_grace_a_stream_ends_with_an_error_event(gateway, engine, ask):
    engine.script = streams_for_ever
    reader, _ = await ask()
    await reader.readuntil(b"data: {}")
    await gateway.stop(grace=0.05)
    assert b'"code": "server_stopping"' in await reader.read()
    await eventually(engine.calls[0].gone.is_set)


async def test_a_client_that_does_not_read_cannot_keep_it_from_stopping(gateway, engine, ask):
    async def floods(call):
        await call.stream()
        while True:
            await call.chunk(b"x" * 65536)

    engine.script = floods
    _, writer = await ask()
    writer.transport.pause_reading()
    await eventually(lambda: gateway.front.server.hub.lines)
    connection = next(iter(gateway.front.server.hub.lines))
    await eventually(lambda: connection.transport.get_write_buffer_size() > 65536)
    await asyncio.wait_for(gateway.stop(grace=0), 5)
    writer.transport.abort()


async def test_stopping_twice_or_unstarted_is_nothing():
    gateway = Gateway()
    await gateway.stop()
    await gateway.start(port=0)
    with pytest.raises(RuntimeError):
        await gateway.start(port=0)
    await gateway.stop(0)
    await gateway.stop(0)


def test_the_table_refuses_a_model_that_the_engine_knows_by_another_name():
    with pytest.raises(ValueError, match="the engine serves 'a', the table says 'b'"):
        Table().set("b", Ready(replica_at("http://127.0.0.1:9", "a")))


def test_a_removed_model_is_gone_and_may_be_removed_again():
    table = Table(clock=lambda: 7.9)
    table.set("a", Ready(replica_at("http://127.0.0.1:9", "a")))
    assert table.ready()["a"].since == 7
    table.remove("a")
    table.remove("a")
    assert not table.states()


async def test_what_it_imports_is_lean():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import corral.gateway.server, sys; print(*sys.modules)", stdout=asyncio.subprocess.PIPE
    )
    loaded = set((await process.communicate())[0].decode().split())
    assert loaded.isdisjoint({"starlette", "fastapi", "httpx", "h2", "websockets", "numpy", "requests"})


def refuses(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
