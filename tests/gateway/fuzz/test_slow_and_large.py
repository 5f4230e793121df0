"""Clients that take their time, stop in the middle, send too much, or do not read."""

import asyncio
import gzip
import json
from contextlib import suppress

import pytest

from corral.gateway.wire.limits import Limits
from gateway.conftest import REQUEST, eventually
from gateway.fake_engine import streams_for_ever
from gateway.fuzz.raw import Leftovers, Talk, converse, healthy

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
LIMIT = 1_000_000  # of the fixture's gateway


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_at_the_limit(gateway, engine, size, declared):
    body = b'{"model": "m", "x": "' + b"x" * (size - 23) + b'"}'
    framed = (
        b"Content-Length: %d\r\n\r\n%b" % (size, body)
        if declared
        else b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    )
    talk = await converse(gateway.port, [CHAT + b"Connection: close\r\n" + framed], quiet=5)
    assert [status for status, _, _ in talk.answers] == [413 if size > LIMIT else 200]
    assert [call.body for call in engine.calls] == ([] if size > LIMIT else [body])


@pytest.mark.parametrize("coding", [b"gzip", b"deflate", b"br", b"zstd", b"GZIP", b"gzip, gzip", b"x"])
async def test_a_compressed_body_is_refused_and_not_opened(gateway, engine, coding):
    bomb = gzip.compress(bytes(50_000_000), 1)
    head = CHAT + b"Content-Encoding: %b\r\nContent-Length: %d\r\n\r\n" % (coding, len(bomb))
    talk = await converse(gateway.port, [head + bomb], quiet=5)
    if talk.end != "reset":
        ((status, _, body),) = talk.answers
        assert status == 415
        assert json.loads(body)["error"]["code"] == "unsupported_encoding"
    assert not engine.calls


async def test_a_compressed_body_that_does_not_say_so_is_no_json(gateway, engine):
    bomb = gzip.compress(b'{"model": "m"}')
    talk = await converse(gateway.port, [CHAT + b"Content-Length: %d\r\n\r\n%b" % (len(bomb), bomb)])
    assert [status for status, _, _ in talk.answers] == [400]
    assert not engine.calls


@pytest.mark.parametrize(
    "head",
    [
        CHAT + b"X: " + b"x" * 70_000,  # and no end
        CHAT + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        CHAT + b"X: y\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}",
        CHAT + b"x" * 70_000,
        b"POST /" + b"x" * 70_000,
        b"GET /healthz?" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        CHAT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\nContent-Encoding: " + b"z" * 3_000_000,
    ],
)
async def test_a_head_has_a_bound(gateway, engine, head):
    talk = await converse(gateway.port, [head[at : at + 50_000] for at in range(0, len(head), 50_000)])
    assert talk.end in {"closed", "reset"}
    if talk.received:
        assert [status for status, _, _ in talk.answers] == [431]
    assert not engine.calls
    assert await healthy(gateway.port)


async def test_what_stops_in_the_middle_is_told_so_and_closed(gateway, engine):
    gateway.front.server.hub.limits = Limits(head_seconds=0.1, body_seconds=0.1)
    one = CHAT + b"Content-Length: 2\r\n\r\n{}"
    stopped = {
        "a silent connection": b"",
        "empty lines": b"\r\n\r\n",
        "a head": CHAT,
        "a body": CHAT + b"Content-Length: 9\r\n\r\n{",
        "chunks": CHAT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{",
        "the second head": one + CHAT,
    }
    before = Leftovers()
    talks = await asyncio.gather(*(converse(gateway.port, [data], quiet=4) for data in stopped.values()))
    for what, talk in zip(stopped, talks, strict=True):
        assert talk.end == "closed", what
        statuses = [status for status, _, _ in talk.answers]
        assert statuses == ([200, 408] if stopped[what].startswith(one) else [408]), what
    await before.none(engine)


async def test_a_slow_writer_is_served(gateway, engine):
    gateway.front.server.hub.limits = Limits(body_seconds=0.8)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model": "m"}'
    writer.write(CHAT + b"Content-Length: %d\r\n\r\n" % len(body))
    for byte in body:  # 2.8 s in all, and never 0.8 s without a byte
        writer.write(bytes([byte]))
        await asyncio.sleep(0.2)
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200 ")
    writer.transport.abort()


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"X" * 70_000, b"\x00"])
async def test_nothing_is_written_into_the_middle_of_an_answer(gateway, engine, ask, garbage):
    engine.script = streams_for_ever
    reader, writer = await ask()
    received = await reader.readuntil(b"data: {}")
    writer.write(garbage)
    with suppress(ConnectionResetError):
        received += await asyncio.wait_for(reader.read(), 5)
    assert received.count(b"HTTP/1.1") == 1
    ((status, _, body),) = Talk(received, methods=[b"POST"]).answers
    assert (status, body) == (200, None)  # cut short, and seen to be
    await eventually(engine.calls[0].gone.is_set)


async def test_requests_that_queue_on_one_connection_have_a_bound(gateway, engine, ask):
    engine.script = streams_for_ever
    before = Leftovers()
    reader, writer = await ask()
    await reader.readuntil(b"data: {}")
    writer.write((REQUEST % 2 + b"{}") * 10_000)
    with suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), 10)  # it is closed
    await eventually(lambda: all(call.gone.is_set() for call in engine.calls))
    assert len(engine.calls) < 20
    writer.transport.abort()
    await before.none(engine)
