"""The server below the application: what clients may take, and how answers are framed for each of them."""

import asyncio
import re
import time
from math import inf

import pytest

from corral.gateway.wire.cycle import Cycle
from corral.gateway.wire.limits import Limits
from gateway.conftest import eventually
from gateway.fake_engine import never_answers, stalls_in_the_stream

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHAT = b"POST /v1/chat/completions HTTP/%b\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
async def connected(gateway):
    """Open connections that are closed in the end."""
    writers = []

    async def connected(data=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writers.append(writer)
        writer.write(data)
        return reader, writer

    yield connected
    for writer in writers:
        writer.transport.abort()


async def test_more_connections_than_there_may_be_are_told_so(gateway, engine, connected):
    gateway.front.server.hub.limits = Limits(connections=3)
    engine.script = never_answers
    held = [await connected(CHAT % b"1.1") for _ in range(3)]
    await eventually(lambda: engine.connections == 3)
    reader, _ = await connected(GET)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5\r\n" in answer
    assert b'"code": "too_many_connections"' in answer
    held[0][1].close()
    await eventually(lambda: len(gateway.front.server.hub.lines) < 3)
    reader, _ = await connected(GET)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_without_a_request_is_closed_without_a_word(gateway, connected):
    gateway.front.server.hub.limits = Limits(idle_seconds=0.1)
    reader, _ = await connected(GET)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b'{"status": "alive"}')


async def test_an_answer_may_take_longer_than_any_part_of_a_request(gateway, engine, connected):
    gateway.front.server.hub.limits = Limits(idle_seconds=0.1, head_seconds=0.1, body_seconds=0.1)
    engine.script = stalls_in_the_stream
    reader, _ = await connected(CHAT % b"1.1")
    await reader.readuntil(b"data: {}")
    later = time.monotonic() + 10
    gateway.front.server.hub.look(later)  # as the clock will
    assert len(gateway.front.server.hub.lines) == 1
    assert not engine.calls[0].gone.is_set()


async def test_a_refused_upload_is_thrown_away_up_to_a_bound(connected):
    reader, writer = await connected(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    sent = 0

    async def upload():
        nonlocal sent
        while sent < 90_000_000:
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    with pytest.raises((ConnectionError, RuntimeError)):  # uvloop raises the latter for a write to a closed connection
        await upload()
    assert 8_000_000 < sent < 40_000_000  # and what the kernel buffers


async def test_a_body_that_stops_while_nobody_reads_it_is_late_once_somebody_does(gateway, connected):
    gateway.front.server.hub.limits = Limits(body_seconds=1)
    _, writer = await connected(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n"
    )
    await eventually(lambda: gateway.front.server.hub.lines)
    (line,) = gateway.front.server.hub.lines
    await eventually(lambda: line._parsed)
    line.hold(reading=False)
    line.be_late()
    assert line.until == inf
    line.hold(reading=True)
    assert line.until < inf
    assert not writer.is_closing()


async def test_nothing_wakes_a_server_without_connections(gateway, connected):
    _, writer = await connected(GET)
    await eventually(lambda: gateway.front.server.hub._timer)
    writer.close()
    await eventually(lambda: not gateway.front.server.hub.lines)
    assert gateway.front.server.hub._timer is None


async def test_a_stream_for_a_client_of_http_1_0_ends_with_the_connection(engine, connected):
    async def streams(call):
        await call.stream()
        await call.chunk(b"data: 1\n\n")
        await call.chunk(b"data: 2\n\n")
        await call.end()

    engine.script = streams
    reader, _ = await connected(CHAT % b"1.0")
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"connection: close" in head
    assert body == b"data: 1\n\ndata: 2\n\n"


async def test_an_answer_has_the_time(connected):
    reader, _ = await connected(GET)
    head = await reader.readuntil(b"\r\n\r\n")
    assert re.search(rb"date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", head)


class Wire:
    """What a cycle needs of a connection."""

    def __init__(self):
        self.sent = b""
        self.kept = None

    def write(self, data):
        self.sent += data

    def writable(self):
        return None

    def hold(self, *, reading):
        pass

    def answered(self, *, keep):
        self.kept = keep


def cycle_of(wire, method="GET"):
    return Cycle(wire, {"method": method, "http_version": "1.1"}, keep=True, expects=False)


@pytest.mark.parametrize("header", [(b"x", b"a\r\nset-cookie: b"), (b"x\n", b"a"), (b"x", b"a\n")])
async def test_a_header_cannot_be_two(header):
    wire = Wire()
    with pytest.raises(ValueError, match="a line's end"):
        await cycle_of(wire).send({"type": "http.response.start", "status": 200, "headers": [header]})
    assert not wire.sent


@pytest.mark.parametrize(
    ("headers", "body", "framed", "kept"),
    [
        ([(b"content-length", b"3")], b"abc", b"\r\n\r\nabc", True),
        ([(b"content-length", b"4")], b"abc", b"\r\n\r\nabc", False),  # too short: the client is to see that
        ([], b"abc", b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n", True),
        ([], b"", b"\r\n\r\n0\r\n\r\n", True),
        ([(b"Content-Length", b"3")], b"abc", b"\r\n\r\nabc", True),
    ],
)
async def test_how_an_answer_is_framed(headers, body, framed, kept):
    wire = Wire()
    cycle = cycle_of(wire)
    await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
    assert not wire.sent  # it goes out with the first part of the body, in one packet
    await cycle.send({"type": "http.response.body", "body": body})
    assert wire.sent.endswith(framed)
    assert wire.kept is kept


async def test_an_answer_without_a_body_has_no_length():
    wire = Wire()
    cycle = cycle_of(wire)
    await cycle.send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]})
    await cycle.send({"type": "http.response.body"})
    assert b"content-length" not in wire.sent
    assert wire.sent.endswith(b"\r\n\r\n")
    assert wire.kept


async def test_who_left_is_told_of_once_and_only_before_the_end():
    calls = []
    cycle = cycle_of(Wire())
    cycle.when_left(lambda: calls.append(1))
    cycle.leave()
    cycle.leave()
    assert calls == [1]
    cycle = cycle_of(Wire())
    cycle.when_left(lambda: calls.append(2))
    await cycle.send({"type": "http.response.start", "status": 204, "headers": []})
    await cycle.send({"type": "http.response.body"})
    cycle.leave()
    assert calls == [1]
    cycle = cycle_of(Wire())
    cycle.leave()
    cycle.when_left(lambda: calls.append(3))
    assert calls == [1, 3]
