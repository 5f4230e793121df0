"""A client that goes away takes its request with it, whenever it goes, and nothing is left behind."""

import asyncio
import gc
import socket

import pytest

from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.wire import sockets
from gateway.conftest import REQUEST, eventually, sample
from gateway.fake_engine import answers_a_refusal_slowly, never_answers, stalls_in_the_stream, streams_for_ever

CHAT = "/v1/chat/completions"


def connections_to_the_engine(gateway):
    return len(gateway.front.relay.pool.busy)


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("script", [never_answers, stalls_in_the_stream, streams_for_ever, answers_a_refusal_slowly])
async def test_the_engine_sees_it_at_once(gateway, engine, ask, script, abruptly):
    engine.script = script
    reader, writer = await ask()
    await eventually(lambda: engine.calls)
    if script in {stalls_in_the_stream, streams_for_ever}:
        await reader.readuntil(b"data: {}")
    if abruptly:
        writer.transport.abort()
    else:
        writer.close()
    assert await eventually(engine.calls[0].gone.is_set) < 0.2
    await eventually(lambda: sample(gateway, "cancelled_total", model="m") == 1)
    assert sample(gateway, "in_flight", model="m") == 0
    assert sample(gateway, "upstream_errors_total", model="m", code="upstream_died") is None


async def test_during_its_upload_nothing_reaches_the_engine(gateway, engine):
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(REQUEST % 500_000 + b'{"model": "m", ')
    await eventually(lambda: gateway.front.server.hub.tasks)
    writer.close()
    await eventually(lambda: not gateway.front.server.hub.tasks)
    assert not engine.calls
    assert sample(gateway, "cancelled_total", model="") == 1
    assert sample(gateway, "requests_total", model="", route=CHAT, status="none") == 1


async def test_while_the_engine_does_not_read_its_upload(gateway, ask):
    server = await asyncio.start_server(lambda reader, _writer: connected.append(reader), "127.0.0.1", 0, limit=1)
    connected: list[asyncio.StreamReader] = []
    try:
        port = server.sockets[0].getsockname()[1]
        gateway.table.set("m", Ready(replica_at(f"http://127.0.0.1:{port}", "m")))
        _, writer = await ask(b'{"image": "' + b"x" * 900_000 + b'"}')
        await eventually(lambda: connected)
        writer.close()
        await eventually(lambda: not gateway.front.server.hub.tasks)
        assert len(await asyncio.wait_for(connected[0].read(), 5)) < 900_000 + 1000
        assert connections_to_the_engine(gateway) == 0
    finally:
        server.close()
        for reader in connected:
            reader._transport.abort()


async def test_a_thousand_cancelled_streams_leave_nothing(gateway, engine, ask, caplog):
    engine.script = streams_for_ever
    before = len(asyncio.all_tasks())

    async def begin_and_leave():
        reader, writer = await ask()
        await reader.readuntil(b"data: {}")
        writer.transport.abort()

    for _ in range(20):
        await asyncio.gather(*(begin_and_leave() for _ in range(50)))
    await eventually(lambda: len(asyncio.all_tasks()) == before and engine.connections == 0, 10)
    assert len(engine.calls) == 1000
    assert connections_to_the_engine(gateway) == 0
    assert not gateway.front.server.hub.lines
    assert sample(gateway, "cancelled_total", model="m") == 1000
    assert sample(gateway, "in_flight", model="m") == 0
    assert not caplog.records
    gc.collect()  # an exception that nobody fetched would warn now


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
async def test_a_client_that_does_not_read_for_long_is_cut_off(engine, monkeypatch):
    monkeypatch.setitem(sockets._CLIENT_TIMES, "TCP_USER_TIMEOUT", 300)
    gateway = Gateway()
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)

    async def floods(call):
        await call.stream()
        while True:
            await call.chunk(b"x" * 65536)

    engine.script = floods
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.transport.pause_reading()
    writer.write(REQUEST % 2 + b"{}")
    await eventually(lambda: engine.calls and engine.calls[0].gone.is_set(), 10)
    writer.transport.abort()
    await gateway.stop(0)


async def test_a_client_that_does_not_read_holds_the_engine_back_and_not_its_chunks(gateway, engine, ask):
    sent = 0

    async def floods(call):
        nonlocal sent
        await call.stream()
        while not call.gone.is_set():
            await call.chunk(b"data: " + b"x" * 65536 + b"\n\n")
            sent += 65536

    engine.script = floods
    _, writer = await ask()
    writer.transport.pause_reading()
    previous = -1
    while sent != previous:  # until it stands still
        previous = sent
        await asyncio.sleep(0.1)
    # Kernel buffers of two connections (up to about 6 MB each on loopback), not the gateway's memory.
    assert 0 < sent < 24_000_000
    buffered = next(iter(gateway.front.server.hub.lines)).transport.get_write_buffer_size()
    assert buffered < 1_000_000
    writer.transport.abort()
    await eventually(engine.calls[0].gone.is_set)
