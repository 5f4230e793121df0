"""Several processes that answer: one set of limits, one metrics page; one that dies costs its own clients alone."""

import asyncio
import json
import os
import signal
from contextlib import suppress

import aiohttp
import msgspec
import openai
import pytest

from corral.credentials import digest
from corral.gateway.desk.values import KeyLimits
from corral.gateway.front import FrontSettings
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Loading, Ready, replica_at
from gateway.conftest import eventually, sample
from gateway.fake_engine import never_answers, stalls_in_the_stream, streams_for_ever

CHAT = "/v1/chat/completions"
SECRET = "a-long-secret-of-alice-1"


def keys_of(**limits):
    keys = Keyring()
    identity = Identity("key-alice", limits=KeyLimits(id="key-alice", **limits))
    keys.replace([Entry(digest(SECRET.encode()), identity)], configured=True)
    return keys


@pytest.fixture
async def started(engine):
    running = []

    async def start(**options):
        gateway = Gateway(FrontSettings(body_limit=100_000, heartbeat=0.05), workers=2, **options)
        gateway.table.set("m", Ready(replica_at(engine.url, "m")))
        running.append(gateway)
        await gateway.start(port=0)
        return gateway

    yield start
    for gateway in running:
        await gateway.stop(grace=0)


def session(gateway, **headers):
    return aiohttp.ClientSession(
        f"http://127.0.0.1:{gateway.port}", connector=aiohttp.TCPConnector(force_close=True), headers=headers
    )


async def test_requests_are_answered_and_counted_on_one_page(started, engine):
    gateway = await started()
    async with session(gateway) as http:

        async def ask():
            async with http.post(CHAT, data=b'{"model": "m"}', headers={"x-request-id": "r-7"}) as response:
                assert response.status == 200
                assert response.headers["x-request-id"] == "r-7"
                assert (await response.json())["body"] == {"model": "m"}

        await asyncio.gather(*(ask() for _ in range(40)))
        await eventually(lambda: sample(gateway, "requests_total", model="m", status="2xx") == 40)
        async with http.get("/metrics") as response:
            page = await response.text()
            assert 'status="2xx"} 40.0' in page
        async with http.get("/v1/models") as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["m"]
            assert len(response.headers.getall("x-request-id")) == 1
        async with http.get("/nothing") as response:
            assert response.status == 404
    await eventually(lambda: sample(gateway, "in_flight", model="m") == 0)
    assert len(gateway.pool.pids()) == 2


async def test_a_stream_passes_and_a_client_that_leaves_is_seen_by_the_engine(started, engine):
    gateway = await started()
    engine.script = streams_for_ever
    async with session(gateway) as http:
        async with http.post(CHAT, data=b'{"model": "m", "stream": true}') as response:
            await response.content.readuntil(b"\n\n")
            response.close()
        assert await eventually(engine.calls[0].gone.is_set) < 0.5
    await eventually(lambda: sample(gateway, "cancelled_total", model="m") == 1)
    await eventually(lambda: sample(gateway, "in_flight", model="m") == 0)


async def test_limits_are_shared(started, engine):
    gateway = await started(keys=keys_of(requests_per_minute=10))
    statuses = []
    async with session(gateway, authorization=f"Bearer {SECRET}") as http:

        async def ask():
            async with http.post(CHAT, data=b'{"model": "m"}') as response:
                statuses.append(response.status)

        await asyncio.gather(*(ask() for _ in range(30)))
    assert sorted(statuses) == [200] * 10 + [429] * 20
    assert len(engine.calls) == 10


async def test_a_key_that_is_revoked_is_refused_by_every_worker(started, engine):
    keys = keys_of()
    gateway = await started(keys=keys)
    async with session(gateway, authorization=f"Bearer {SECRET}") as http:
        async with http.post(CHAT, data=b'{"model": "m"}') as response:
            assert response.status == 200
        await eventually(lambda: keys.taken_used().keys() == {"key-alice"})
        keys.replace([], configured=True)

        async def refused():
            async with http.post(CHAT, data=b'{"model": "m"}') as response:
                return response.status == 401

        async with asyncio.timeout(5):
            while not all([await refused() for _ in range(10)]):
                pass
    assert SECRET not in json.dumps([call.headers for call in engine.calls])


@pytest.mark.parametrize("path", ["/api/keys", "/metrics", "/nothing", CHAT])
async def test_a_worker_turns_away_who_has_no_key_before_any_of_the_body(started, path):
    gateway = await started(keys=keys_of())
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n" % path.encode())
    assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 401 ")
    writer.close()

    def counted():
        return 'status="4xx"' in gateway.metrics.exposition(gateway.admission.standing()).decode()

    await eventually(counted)


async def test_a_page_reads_each_header_once_whoever_answers(started):
    gateway = await started()
    async with session(gateway, origin="http://localhost:3000") as http, http.get("/v1/models") as response:
        assert response.status == 200
        for name in ("access-control-allow-origin", "x-request-id", "vary"):
            assert len(response.headers.getall(name)) == 1


async def test_those_who_wait_are_told_how_far_it_is_and_go_on(started, engine):
    gateway = await started()
    gateway.table.set("m", Loading("weights", 0.5))
    engine.script = streams_one
    async with session(gateway) as http, http.post(CHAT, data=b'{"model": "m", "stream": true}') as response:
        assert await response.content.readuntil(b"\n\n") == b": m loads: weights, 50%\n\n"
        gateway.table.set("m", Ready(replica_at(engine.url, "m")))
        assert (await response.read()).endswith(b"data: 1\n\n")


async def streams_one(call):
    await call.stream()
    await call.chunk(b"data: 1\n\n")
    await call.end()


async def test_who_leaves_the_queue_takes_nothing_with_him(started, engine):
    gateway = await started()
    gateway.table.set("m", Loading("weights"))
    async with session(gateway) as http:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), http.post(CHAT, data=b'{"model": "m"}'):
                    pass
        await eventually(lambda: sample(gateway, "queued", model="m") == 0)
        gateway.table.set("m", Ready(replica_at(engine.url, "m")))
        async with http.post(CHAT, data=b'{"model": "m"}') as response:
            assert response.status == 200
    assert len(engine.calls) == 1
    await eventually(lambda: sample(gateway, "in_flight", model="m") == 0)


async def test_a_worker_that_dies_costs_its_own_clients_alone_and_is_replaced(started, engine):
    gateway = await started()
    engine.script = stalls_in_the_stream
    readers = []
    for _ in range(16):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = b'{"model": "m", "stream": true}'
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (CHAT.encode(), len(body)) + body
        )
        await reader.readuntil(b"data: {}")
        readers.append((reader, writer))
    first, second = gateway.pool.pids()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: first not in gateway.pool.pids() and len(gateway.pool.pids()) == 2)
    gone = sum(call.gone.is_set() for call in engine.calls)
    await eventually(lambda: sample(gateway, "in_flight", model="m") == 16 - sum(c.gone.is_set() for c in engine.calls))
    assert gone < 16 or second not in gateway.pool.pids()
    engine.script = streams_one
    async with session(gateway) as http:
        for _ in range(8):
            async with http.post(CHAT, data=b'{"model": "m", "stream": true}') as response:
                assert response.status == 200
    for _, writer in readers:
        writer.transport.abort()


async def test_stopping_tells_those_who_still_wait(started, engine):
    gateway = await started()
    engine.script = never_answers
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0)
    asking = asyncio.create_task(client.chat.completions.create(model="m", messages=[]))
    await eventually(lambda: engine.calls)
    pids = gateway.pool.pids()
    await gateway.stop(grace=0.1)
    with pytest.raises(openai.InternalServerError, match="shutting down"):
        await asking
    await client.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_many_who_leave_a_queue_at_any_moment_leave_nothing(started, engine):
    gateway = await started()
    gateway.table.set("m", Ready(msgspec.structs.replace(replica_at(engine.url, "m"), slots=1)))
    async with session(gateway) as http:

        async def ask(patience):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience), http.post(CHAT, data=b'{"model": "m"}') as response:
                    await response.read()

        await asyncio.gather(*(ask(0.002 + 0.001 * (number % 40)) for number in range(300)))
        await eventually(lambda: sample(gateway, "in_flight", model="m") == 0)
        await eventually(lambda: sample(gateway, "queued", model="m") == 0)
        async with http.post(CHAT, data=b'{"model": "m"}') as response:
            assert response.status == 200
    assert len(gateway.pool.pids()) == 2
