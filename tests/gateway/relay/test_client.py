"""The client of engines: how they frame their answers, keep or end their connections, or fall silent."""

import asyncio
import json
import socket
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.front import FrontSettings
from corral.gateway.relay import pool
from corral.gateway.relay.connection import Broken, Connection
from corral.gateway.relay.pool import Pool, Unreachable, place_of
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.wire.headers import opening
from gateway.certificates import Authority
from gateway.conftest import eventually, sample
from gateway.fake_engine import echo

CHAT = "/v1/chat/completions"
JSON = "Content-Type: application/json"


class Transport:
    """What a connection needs of one, without a socket."""

    def __init__(self):
        self.aborted = False
        self.reading = True

    def write(self, data):
        pass

    def abort(self):
        self.aborted = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


def asked(loop):
    connection = Connection(loop)
    connection.transport = Transport()
    connection.begin(b"", b"")
    return connection


BODY = b'{"a": "' + b"x" * 50 + b'"}'
ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\nTrailer: x\r\n\r\n"
    % (BODY[:5], len(BODY) - 5, BODY[5:]),
    "the connection's end": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY,
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
}


@given(framing=st.sampled_from(sorted(ANSWERS)), data=st.data())
async def test_an_answer_is_the_same_wherever_it_is_cut(framing, data):
    answer = ANSWERS[framing]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=10)))
    connection = asked(asyncio.get_running_loop())
    for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True):
        connection.data_received(answer[start:end])
    if framing in {"the connection's end", "HTTP/1.0"}:
        assert not connection.complete
        connection.eof_received()
    await connection.head()
    assert connection.status == 200
    assert [name for name, _ in connection.headers if name == b"link"] == []
    parts = []
    while part := await connection.read():
        parts.append(part)
    assert b"".join(parts) == BODY
    assert connection.reusable() is (framing in {"length", "chunks", "interim"})


@given(framing=st.sampled_from(["length", "chunks", "interim"]), data=st.data())
async def test_an_answer_that_is_cut_short_is_broken(framing, data):
    answer = ANSWERS[framing]
    connection = asked(asyncio.get_running_loop())
    connection.data_received(answer[: data.draw(st.integers(0, len(answer) - 1))])
    connection.eof_received()
    with pytest.raises(Broken):
        await read_all(connection)


@given(st.binary(max_size=200))
async def test_whatever_an_engine_sends_is_an_answer_or_broken(data):
    connection = asked(asyncio.get_running_loop())
    connection.data_received(data)
    connection.eof_received()
    try:
        await read_all(connection)
    except Broken:
        assert connection.transport.aborted
    assert not connection.reusable()


async def read_all(connection):
    await connection.head()
    while await connection.read():
        pass


async def test_endless_headers_are_broken():
    connection = asked(asyncio.get_running_loop())
    connection.data_received(b"HTTP/1.1 200 OK\r\n")
    for _ in range(10):
        connection.data_received(b"X: " + b"y" * 10_000)
    with pytest.raises(Broken, match="endless headers"):
        await connection.head()


async def test_what_is_not_fetched_holds_the_engine_back():
    connection = asked(asyncio.get_running_loop())
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 500_000)
    assert connection.transport.reading is False
    assert len(await connection.read()) == 500_000
    assert connection.transport.reading is True


async def test_a_stream_that_is_complete_already_is_not_listened_to():
    connection = asked(asyncio.get_running_loop())
    connection.data_received(ANSWERS["length"])
    connection.end_after_silence(0.01)
    assert connection._timer is None  # else it would end the next request on this connection
    connection = asked(asyncio.get_running_loop())
    connection.data_received(ANSWERS["length"][:-1])
    connection.end_after_silence(10)
    connection.data_received(ANSWERS["length"][-1:])
    assert connection._timer is None


async def test_another_protocol_is_broken():
    connection = asked(asyncio.get_running_loop())
    connection.data_received(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    with pytest.raises(Broken):
        await connection.head()


@pytest.fixture
async def kept(gateway, engine):
    """The gateway, with an engine whose connections are used again."""
    gateway.table.set("m", Ready(replica_at(engine.url, "m", keep_alive=True)))
    return gateway


async def test_a_connection_that_ended_while_it_waited_is_no_failure(kept, http, engine):
    async def closes_afterwards(call):
        await call.json(200, {})
        call.writer.close()

    engine.script = closes_afterwards
    for _ in range(5):
        async with http.post(CHAT, data=b"{}") as response:
            assert response.status == 200
        await eventually(lambda: engine.connections == 0)
    assert len(engine.calls) == 5


async def test_an_end_that_this_loop_has_not_seen_yet_is_looked_for(engine):
    ours = Pool()
    place = place_of(engine.url)
    connection = await ours.take(place)
    connection.begin(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n", b"{}")
    await read_all(connection)
    ours.give(place, connection, keep=True)
    held = socket.socket(fileno=socket.dup(connection.transport.get_extra_info("socket").fileno()))
    held.shutdown(socket.SHUT_RD)  # as if the engine's end had come a moment ago
    assert connection.is_fresh(look=False)
    assert not connection.is_fresh(look=True)
    held.close()
    ours.close()


async def test_an_engine_that_talks_unasked_is_not_asked_again(kept, http, engine):
    async def talks_on(call):
        await call.json(200, {})
        await call.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanother")

    engine.script = talks_on
    async with http.post(CHAT, data=b"{}") as response:
        assert await response.read() == b"{}"
    engine.script = echo
    async with http.post(CHAT, data=b"{}") as response:
        assert (await response.json())["path"] == CHAT
    assert engine.accepted == 2


async def test_waiting_connections_are_closed_after_a_while(kept, http, engine, monkeypatch):
    monkeypatch.setattr(pool, "_IDLE_SECONDS", 0.05)
    async with http.post(CHAT, data=b"{}") as response:
        await response.read()
    assert engine.connections == 1
    await eventually(lambda: engine.connections == 0)
    assert kept.front.relay.pool._sweeping is None  # and nothing wakes an idle gateway


async def test_an_interim_answer_is_not_the_answer(http, engine):
    async def continues(call):
        await call.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
        await call.json(200, {"done": True})

    engine.script = continues
    async with http.post(CHAT, data=b"{}") as response:
        assert (response.status, await response.json()) == (200, {"done": True})


async def test_a_stream_that_ends_with_its_connection(http, engine):
    async def streams(call):
        await call.head(200, "Content-Type: text/event-stream", "Connection: close")
        await call.raw(b"data: 1\n\n")
        call.writer.close()

    engine.script = streams
    async with http.post(CHAT, data=b"{}") as response:
        assert await response.read() == b"data: 1\n\n"


async def test_an_engine_below_a_path(gateway, engine, http):
    gateway.table.set("m", Ready(replica_at(f"{engine.url}/openai/", "m", headers=(("X-Api-Key", "k"),))))
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 200
    assert engine.calls[0].path == f"/openai{CHAT}"
    assert engine.calls[0].headers["x-api-key"] == "k"


async def test_a_host_that_does_not_take_the_connection_is_unreachable(monkeypatch):
    monkeypatch.setattr(pool, "_CONNECT_SECONDS", 0.1)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for one in waiting:
            one.setblocking(False)  # noqa: FBT003 - the standard library's signature
            one.connect_ex(full.getsockname())
        ours = Pool()
        with pytest.raises(Unreachable):
            await ours.take(place_of(f"http://127.0.0.1:{full.getsockname()[1]}"))
        assert not ours.busy
        for one in waiting:
            one.close()


async def test_a_name_that_is_none_is_unreachable():
    with pytest.raises(Unreachable):
        await Pool().take(place_of("http://no.such.host.invalid"))


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x?y", "http://u:p@x", "http://x:99999"])
def test_what_is_no_base_url(url):
    with pytest.raises(ValueError, match=r"."):
        place_of(url)


@pytest.mark.parametrize("header", [("A", "b\r\nC: d"), ("A b", "c"), ("A", "b\0"), ("", "b")])
def test_an_engines_own_headers_cannot_be_more_than_headers(header):
    with pytest.raises(ValueError, match="no header that can be sent"):
        opening(CHAT, "localhost", (header,), keep_alive=True)


async def test_a_silent_stream_ends_with_an_error_event(engine):
    gateway = Gateway(FrontSettings(idle_seconds=0.2))
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)

    async def stalls(call):
        await call.stream()
        for number in range(3):  # 0.3 s in all, and never 0.2 s without a byte
            await call.chunk(b'data: {"n": %d}\n\n' % number)
            await asyncio.sleep(0.1)
        await call.gone.wait()

    engine.script = stalls
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    await reader.readuntil(b'"n": 2')
    error = json.loads((await asyncio.wait_for(reader.readuntil(b"}}"), 5)).partition(b"data: ")[2])
    assert error["error"]["code"] == "upstream_died"
    await eventually(engine.calls[0].gone.is_set)
    writer.close()
    await gateway.stop(0)


def delta(text):
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2,'
USAGE += b' "prompt_tokens_details": {"cached_tokens": 4}}}\n\n'
DONE = b"data: [DONE]\n\n"


async def says_its_usage(call):
    await call.stream()
    await call.chunk(delta("a") + delta("b"))
    if json.loads(call.body).get("stream_options", {}).get("include_usage"):
        await call.chunk(USAGE[:20])
        await call.chunk(USAGE[20:])
    await call.chunk(DONE)
    await call.end()


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (b"", False),
        (b', "stream_options": {"include_usage": true}', True),
        (b', "stream_options": {"include_usage": false, "x": 1}', False),
        (b', "stream_options": null', False),
    ],
)
async def test_the_usage_of_a_stream_is_known_and_shown_to_who_asked_for_it(http, engine, gateway, options, seen):
    engine.script = says_its_usage
    async with http.post(CHAT, data=b'{"model": "m", "stream": true' + options + b"}") as response:
        assert await response.read() == delta("a") + delta("b") + (USAGE if seen else b"") + DONE
    await eventually(lambda: sample(gateway, "tokens_total", model="m", kind="output") == 2)
    assert sample(gateway, "tokens_total", model="m", kind="prompt") == 9
    assert sample(gateway, "tokens_total", model="m", kind="cached") == 4
    assert sample(gateway, "ttft_seconds_count", model="m") == 1


async def test_the_usage_of_a_whole_answer_is_known(http, engine, gateway):
    async def answer(call):
        await call.json(200, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}})

    engine.script = answer
    async with http.post(CHAT, data=b'{"model": "m"}') as response:
        await response.read()
    await eventually(lambda: sample(gateway, "tokens_total", model="m", kind="output") == 5)
    assert "stream_options" not in json.loads(engine.calls[0].body)


@pytest.fixture
async def encrypted(engine, tmp_path):
    """The engine behind TLS, with a certificate of an authority that only this test knows; (URL, the authority)."""
    authority = Authority()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pair = authority.pair(tmp_path)
    context.load_cert_chain(pair.cert, pair.key)
    server = await asyncio.start_server(engine._serve, "127.0.0.1", 0, ssl=context)
    yield f"https://localhost:{server.sockets[0].getsockname()[1]}", authority
    server.close()


async def test_an_engine_behind_tls(encrypted, gateway, http, engine, monkeypatch):
    url, authority = encrypted
    gateway.table.set("m", Ready(replica_at(url, "m", keep_alive=True)))
    async with http.post(CHAT, data=b"{}") as response:
        assert response.status == 502  # nobody known vouches for it, so nothing is sent
        assert (await response.json())["error"]["code"] == "upstream_unreachable"
    assert not engine.calls
    trusting = ssl.create_default_context(cadata=authority.root.decode())
    monkeypatch.setattr(pool, "_tls", lambda: trusting)
    for _ in range(3):
        async with http.post(CHAT, data=b'{"x": "' + b"y" * 800_000 + b'"}') as response:
            assert response.status == 200
    assert len({call.writer for call in engine.calls}) == 1
