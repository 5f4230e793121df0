"""A replica that is killed ends the streams that it had begun, and loses no request that it had not."""

import asyncio

import msgspec

from corral.gateway.table import Ready, replica_at
from gateway.conftest import REQUEST, eventually, sample
from gateway.fake_engine import FakeEngine

STREAM = b'{"model": "m", "stream": true, "tag": "%b"}'


async def begins_or_keeps_waiting(call):
    """The first token of a stream, and no more; nothing at all for the others."""
    if b'"begin"' in call.body:
        await call.stream()
        await call.chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')
    await call.gone.wait()


async def answers(call):
    await call.stream()
    await call.chunk(b'data: {"choices": [{"delta": {"content": "whole"}}]}\n\n')
    await call.chunk(b"data: [DONE]\n\n")
    await call.end()


async def ask(gateway, tag):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = STREAM % tag
    writer.write(REQUEST % len(body) + body)
    return reader, writer


async def test_streams_end_with_an_error_and_requests_without_a_first_byte_go_elsewhere(gateway, engine):
    doomed = FakeEngine()
    await doomed.start()
    doomed.script = begins_or_keeps_waiting
    gateway.table.set("m", Ready(msgspec.structs.replace(replica_at(doomed.url, "m"), id="m~1")))
    begun = [await ask(gateway, b"begin") for _ in range(12)]
    for reader, _ in begun:
        await reader.readuntil(b"}\n\n")
    waiting = [await ask(gateway, b"wait") for _ in range(12)]
    await eventually(lambda: len(doomed.calls) == 24)
    engine.script = answers
    gateway.table.enter("m", "m~2", Ready(msgspec.structs.replace(replica_at(engine.url, "m"), id="m~2")))
    for call in doomed.calls:
        call.die()
    await doomed.stop()
    for reader, writer in begun:
        rest = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b'"code": "upstream_died"' in rest
        writer.transport.abort()
    for reader, writer in waiting:
        whole = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert whole.startswith(b"HTTP/1.1 200")
        assert b'"whole"' in whole
        assert b"error" not in whole
        writer.transport.abort()
    assert len(engine.calls) == 12
    await eventually(lambda: sample(gateway, "in_flight", model="m") == 0)
    assert sample(gateway, "retries_total", model="m") == 12
