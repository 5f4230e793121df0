"""A key's holder who wants more than the key allows: by leaving early, by spelling a wish oddly, by reading slowly."""

import asyncio
import json
import socket

import pytest

from corral import credentials
from corral.gateway.desk.values import KeyLimits
from corral.gateway.front import FrontSettings
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.wire.limits import Limits
from gateway.conftest import eventually
from gateway.fake_engine import never_answers
from gateway.fuzz.raw import CHAT, Leftovers, converse

KEY = credentials.new_secret().encode()
USAGE = {"prompt_tokens": 3, "completion_tokens": 700, "total_tokens": 703}


def word(text="word "):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


async def says_much(call):
    """700 tokens, and the usage at the end where it is asked for; as vLLM, `stream` may be anything like true."""
    body = json.loads(call.body)
    if not body.get("stream"):
        await call.json(200, {"choices": [], "usage": USAGE})
        return
    await call.stream()
    for _ in range(70):
        await call.chunk(word() * 10)
    if (body.get("stream_options") or {}).get("include_usage"):
        await call.chunk(b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n")
        await call.gone.wait()  # for who leaves at the last moment
    await call.chunk(b"data: [DONE]\n\n")
    await call.end()


@pytest.fixture
async def keyed(engine):
    """Make a gateway for one key with these limits."""
    started = []

    async def make(http=None, **limits):
        keys = Keyring()
        identity = Identity("key-1", limits=KeyLimits(id="key-1", **limits))
        keys.replace([Entry(credentials.digest(KEY), identity)], configured=True)
        gateway = Gateway(FrontSettings(body_limit=1_000_000, limits=http or Limits()), keys=keys)
        gateway.table.set("m", Ready(replica_at(engine.url, "m")))
        gateway.table.set("other", Ready(replica_at(engine.url, "other")))
        await gateway.start(port=0)
        started.append(gateway)
        return gateway

    yield make
    for gateway in started:
        await gateway.stop(grace=0)


def request(body, key=b"Authorization: Bearer " + KEY):
    return CHAT + key + b"\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def status_of(gateway, body):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(request(body))
        return int((await asyncio.wait_for(reader.readline(), 5)).split()[1]), reader, writer
    except BaseException:
        writer.transport.abort()
        raise


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "stream": true}',
        b'{"model": "m", "stream": true, "max_tokens": 1}',
        b'{"model": "m", "stream": true, "stream_options": {"include_usage": false}}',
        b'{"model": "m", "stream": true, "stream\\u005foptions": {"include_usage": false}}',
        b'{"model": "m", "stream": true, "stream_options": null}',
        b'{"model": "m", "stream": true, "stream_options": {"include_usage": true}, "stream_options": {}}',
        b'{"model": "m", "stream": 1}',
        b'{"model": "m", "stream": "true"}',
        b'{"model": "m", "stre\\u0061m": true}',
        b'{"model": "m", "stream": false, "stream": true}',
    ],
)
async def test_who_leaves_before_the_end_has_used_what_was_said(keyed, engine, body):
    gateway = await keyed(tokens_per_minute=3000)
    engine.script = says_much
    statuses = []
    for _ in range(12):
        status, reader, writer = await status_of(gateway, body)
        statuses.append(status)
        if status == 200:
            for _ in range(700):
                await asyncio.wait_for(reader.readuntil(b"word "), 5)
        writer.transport.abort()
        await eventually(lambda: not engine.connections)
        if status == 429:
            break
    assert statuses[-1] == 429
    assert len(statuses) <= 3000 // 700 + 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "other"}',
        b'{"model": "m", "model": "other"}',
        b'{"model": "m", "mod\\u0065l": "other"}',
        b'{"model": "OTHER"}',
        b'{"model": " other"}',
        b'{"model": "other\\u0000"}',
        b'{"model": ["other"]}',
        b'{"MODEL": "m", "model": "other"}',
        b'{"model": null}',
        b"{}",
    ],
)
async def test_no_spelling_opens_a_model_that_the_key_may_not_use(keyed, engine, body):
    gateway = await keyed(models=("m",))
    talk = await converse(gateway.port, [request(body)], methods=[b"POST"])
    status = talk.answers[0][0]
    assert status in {200, 400, 403, 404}
    # What the engine reads, the last of several, is a model that the key may use, or the only one that can be meant.
    assert all(json.loads(call.body).get("model") in {"m", None} for call in engine.calls)
    assert (status == 200) == bool(engine.calls)


async def test_leaving_and_coming_back_is_no_way_around_requests_a_minute(keyed, engine):
    gateway = await keyed(requests_per_minute=10)
    engine.script = never_answers
    for _ in range(10):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(b'{"model": "m"}'))
        await eventually(lambda: engine.connections == 1)
        writer.transport.abort()
        await eventually(lambda: engine.connections == 0)
    status, _, writer = await status_of(gateway, b'{"model": "m"}')
    writer.transport.abort()
    assert status == 429


@pytest.mark.parametrize("header", [b"authorization: bearer ", b"AUTHORIZATION: BEARER ", b"X-Api-Key: ", b"api-key: "])
async def test_one_key_however_it_is_shown_is_one_key(keyed, engine, header):
    gateway = await keyed(concurrent=2)
    engine.script = never_answers
    before = Leftovers()
    writers = []
    for spelt in (b"Authorization: Bearer ", header):
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request(b'{"model": "m"}', spelt + KEY))
        writers.append(writer)
    await eventually(lambda: engine.connections == 2)
    talk = await converse(gateway.port, [request(b'{"model": "m"}', header + KEY) * 3])
    assert [status for status, _, _ in talk.answers] == [429, 429, 429]
    for writer in writers:
        writer.transport.abort()
    await before.none(engine)


async def test_a_trickle_of_reading_does_not_hold_an_engine_for_ever(keyed, engine):
    async def floods(call):
        await call.stream()
        while not call.gone.is_set():
            await call.chunk(word("x" * 60_000))

    gateway = await keyed(http=Limits(read_seconds=1.0))
    engine.script = floods
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader, ("127.0.0.1", gateway.port))
        await loop.sock_sendall(reader, request(b'{"model": "m", "stream": true}'))

        async def trickles():
            while True:
                await loop.sock_recv(reader, 1)
                await asyncio.sleep(0.05)

        trickle = asyncio.create_task(trickles())
        await eventually(lambda: engine.calls and engine.calls[0].gone.is_set(), 8)
        trickle.cancel()
        await asyncio.gather(trickle, return_exceptions=True)
