"""Traces, against a collector that reads OpenTelemetry's protocol."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.tracing import tracing_from_environment

CHAT = "/v1/chat/completions"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def collector(monkeypatch):
    """Where spans arrive."""
    spans = []

    async def take(request):
        message = ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for one in message.resource_spans for scope in one.scope_spans for span in scope.spans)
        return web.Response()

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    yield spans
    await runner.cleanup()


def attributes(span):
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


async def test_a_request_is_a_span_between_the_clients_and_the_engines(collector, engine):
    async def answers(call):
        await call.json(200, {"usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    engine.script = answers
    gateway = Gateway()
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as http:
        headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
        body = b'{"model": "m", "messages": [{"role": "user", "content": "my secret"}]}'
        async with http.post(CHAT, data=body, headers=headers) as response:
            assert response.status == 200
        async with http.post(CHAT, data=b'{"model": "nobody"}') as response:
            assert response.status == 404
        async with http.get("/healthz"):
            pass
    await gateway.stop(grace=0)  # sends what was not sent
    answered, refused = collector
    assert answered.name == "chat m"
    assert answered.trace_id.hex() == TRACE
    assert answered.parent_span_id.hex() == "b7ad6b7169203331"
    found = attributes(answered)
    assert found["gen_ai.usage.input_tokens"] == 7
    assert found["gen_ai.usage.output_tokens"] == 3
    assert found["http.response.status_code"] == 200
    assert found["corral.replica"] == "m"
    assert attributes(refused)["error.type"] == "model_not_found"
    assert "secret" not in str(collector)
    # The engine's spans are to hang below the gateway's.
    assert engine.calls[0].headers["traceparent"] == f"00-{TRACE}-{answered.span_id.hex()}-01"


async def test_the_first_token_of_a_stream_is_an_event(collector, engine):
    async def streams(call):
        await call.stream()
        await asyncio.sleep(0.05)
        await call.chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
        await call.end()

    engine.script = streams
    gateway = Gateway()
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    async with (
        aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as http,
        http.post(CHAT, data=b'{"model": "m", "stream": true}') as response,
    ):
        await response.read()
    await gateway.stop(grace=0)
    (span,) = collector
    (first,) = span.events
    assert first.name == "gen_ai.first_token"
    assert span.start_time_unix_nano + 40_000_000 < first.time_unix_nano <= span.end_time_unix_nano


def test_without_a_collector_there_are_no_traces(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracing_from_environment() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracing_from_environment() is None


def test_without_the_extra_it_is_said(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert tracing_from_environment() is None
    assert "pip install 'corral[otel]'" in caplog.text
