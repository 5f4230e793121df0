"""More connections than this process may have, or than it takes."""

import asyncio
import resource
import sys
from contextlib import suppress

import msgspec
import pytest

from corral.gateway import forwarding
from corral.gateway.front import FrontSettings
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.wire.limits import Limits
from gateway.conftest import REQUEST, eventually
from gateway.fake_engine import echo, never_answers
from gateway.fuzz.raw import CHAT, converse

BODY = b'{"model": "m"}'


@pytest.fixture
async def small(engine):
    gateway = Gateway(FrontSettings(limits=Limits(connections=20)))
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    yield gateway
    await gateway.stop(grace=0)


async def crowd(port, count, first=b""):
    opened = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        opened.append((reader, writer))
    return opened


async def asked(port):
    once = CHAT + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    talk = await converse(port, [once], quiet=5)
    return [status for status, _, _ in talk.answers]


async def test_silent_connections_make_room_for_those_who_ask(small, engine):
    silent = await crowd(small.port, 200)
    assert await asked(small.port) == [200]
    engine.script = never_answers
    working = await crowd(small.port, 20, REQUEST % len(BODY) + BODY)
    await eventually(lambda: engine.connections == 20)
    assert await asked(small.port) == [503]  # and nobody who is served is sent away for it
    assert engine.connections == 20
    for _, writer in silent + working:
        writer.transport.abort()
    await eventually(lambda: not small.front.server.hub.lines)
    engine.script = echo
    assert await asked(small.port) == [200]


async def test_who_asked_before_is_sent_away_last(small, engine):
    (reader, writer), *_ = await crowd(small.port, 1, REQUEST % len(BODY) + BODY)
    await reader.readuntil(b"\r\n\r\n")
    silent = await crowd(small.port, 100)
    writer.write(REQUEST % len(BODY) + BODY)
    await eventually(lambda: len(engine.calls) == 2)
    for _, one in [*silent, (reader, writer)]:
        one.transport.abort()


async def test_large_bodies_share_a_bound_and_leave_room_for_small_ones(engine, monkeypatch):
    monkeypatch.setattr(forwarding, "_BODIES", 3_000_000)
    gateway = Gateway()
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    large = b'{"model": "m", "x": "' + b"x" * 2_000_000 + b'"}'
    head = REQUEST % len(large)
    half_sent = await crowd(gateway.port, 6, head + large[:-1])
    await eventually(lambda: sum(reader._buffer.startswith(b"HTTP/1.1 503") for reader, _ in half_sent) == 5)
    assert await asked(gateway.port) == [200]
    for reader, writer in half_sent:
        if not reader._buffer:
            writer.write(large[-1:])  # the one that there was room for
            assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 200 ")
        writer.transport.abort()
    await eventually(lambda: gateway.front.forwarding._room.taken == 0)
    talk = await converse(gateway.port, [head.replace(b"Host", b"Connection: close\r\nHost") + large], quiet=5)
    assert [status for status, _, _ in talk.answers] == [200]
    await gateway.stop(grace=0)


async def told(ask, expected):
    with suppress(AssertionError):
        await eventually(lambda: ask() == expected)
    assert ask() == expected


def standing(gateway):
    """Requests in flight, and in the queue."""
    told = gateway.admission.standing()
    return sum(told.in_flight.values()), sum(told.queued.values())


async def test_those_who_leave_the_queue_in_the_moment_of_their_turn_hold_no_place(gateway, engine):
    body = b'{"model": "q"}'
    gateway.table.set("q", Ready(msgspec.structs.replace(replica_at(engine.url, "q"), slots=1)))
    engine.script = never_answers
    for _ in range(20):
        asking = await crowd(gateway.port, 4, REQUEST % len(body) + body)
        await told(lambda: standing(gateway), (1, 3))
        for _, writer in asking:  # all at once: he who is served, and those whose turn it would be
            writer.transport.abort()
        await told(lambda: standing(gateway), (0, 0))
    engine.script = echo
    assert await asked(gateway.port) == [200]


PROGRAM = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, int(sys.argv[2])))
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at

async def main():
    gateway = Gateway()
    gateway.table.set("m", Ready(replica_at(sys.argv[1], "m")))
    await gateway.start(port=0)
    connections = gateway.front.server.hub.limits.connections
    print(gateway.port, connections, *resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(("hard", "connections", "soft"), [(600, 172, 600), (9000, 4096, 8448)])
async def test_files_last_for_the_engine_however_many_clients_come(engine, hard, connections, soft):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 9000:
        pytest.skip("the system allows too few open files")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, engine.url, str(hard), stdout=asyncio.subprocess.PIPE
    )
    try:
        port, *told = map(int, (await process.stdout.readline()).split())
        assert told == [connections, soft, hard]
        silent = await crowd(port, 300)
        assert await asked(port) == [200]
        for _, writer in silent:
            writer.transport.abort()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
