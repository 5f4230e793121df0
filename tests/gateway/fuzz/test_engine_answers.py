"""Whatever bytes an engine answers with, its client gets a whole answer, a 502, or a stream that says it was cut."""

import asyncio
import itertools
import json

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.table import Ready, replica_at
from gateway.fuzz.raw import CHAT, EDITS, Leftovers, converse, edited, examples, parse_answers

REQUEST = CHAT + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NEXT = JSON + b'Content-Length: 18\r\n\r\n{"of": "the other"}'[:-1]
WHOLE = JSON + b'Content-Length: 9\r\n\r\n{"is": 1}'
MODELS = itertools.count()
EVENTS = (
    b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in (b"data: {}\n\n", b"data: [DONE]\n\n")) + b"0\r\n\r\n"
)
BROKEN = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "a protocol of its own": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no version": b"200 OK\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 X\r\nContent-Length: 0\r\n\r\n",
    "half a head": JSON + b"Content-Le",
    "a length that is none": JSON + b"Content-Length: x\r\n\r\n{}",
    "a negative length": JSON + b"Content-Length: -2\r\n\r\n{}",
    "two lengths": JSON + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}       ",
    "length and chunks": JSON + b'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"is": 1}\r\n0\r\n\r\n',
    "less than its length": JSON + b"Content-Length: 20\r\n\r\n{}",
    "a chunk size that is none": JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk without end": JSON + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n{}",
    "a chunk longer than its size": JSON + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "no last chunk": JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "a stream whose first chunk is broken": SSE + b"zz\r\n",
    "a stream that ends before it began": SSE,
    "a header without end": JSON + b"X: " + b"x" * 3_000_000,
    "headers without end": JSON + b"X: y\r\n" * 300_000,
    "a null in a header": JSON + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "a control character in a header": JSON + b"X: a\x01b\r\nContent-Length: 2\r\n\r\n{}",
    "a space in a header's name": JSON + b"X Y: a\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n{}",
    "a redirect": b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
    "not modified": b"HTTP/1.1 304 X\r\n\r\n",
    "nothing but 100": b"HTTP/1.1 100 Continue\r\n\r\n",
}  # fmt: skip


def answers_with(*pieces):
    async def script(call):
        for piece in pieces:
            await call.raw(piece)
            await asyncio.sleep(0)
        call.writer.close()

    return script


@pytest.fixture(params=[False, True], ids=["one request a connection", "kept connections"])
async def upstream(request, gateway, engine):
    gateway.table.set("m", Ready(replica_at(engine.url, "m", keep_alive=request.param)))
    return request.param


async def asked(gateway, model="m"):
    body = b'{"model": "%b"}' % model.encode()
    talk = await converse(gateway.port, [REQUEST % (len(body), body)], quiet=5, methods=[b"POST"])
    assert talk.end == "closed"
    return talk


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_is_none_is_a_502(gateway, engine, caplog, name):
    engine.script = answers_with(BROKEN[name])
    before = Leftovers()
    ((status, _, body),) = (await asked(gateway)).answers
    assert status == 502
    assert json.loads(body)["error"]["code"] in {"upstream_died", "upstream_unreachable"}
    assert not caplog.records
    await before.none(engine)
    assert len(engine.calls) == 1


GOOD = {
    "whole": WHOLE,
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE,
    "after 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20 + WHOLE,
    "in chunks": JSON + b'Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n8;x="y"\r\n"is": 1}\r\n0\r\nX-Trailer: x\r\n\r\n',
    "up to the end": JSON + b'\r\n{"is": 1}',
    "HTTP/1.0": b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"is": 1}',
    "a strange reason": JSON.replace(b"OK", b"\xff\xfe") + b'Content-Length: 9\r\n\r\n{"is": 1}',
    "no reason": b'HTTP/1.1 200\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"is": 1}',
    "a strange header": JSON + b'X: \xe2\x82\xac\xff\r\nContent-Length: 9\r\n\r\n{"is": 1}',
    "more after the end": WHOLE + NEXT,
    "garbage after the end": WHOLE + b"\x00garbage",
    "more after the chunks": JSON + b'Transfer-Encoding: chunked\r\n\r\n9\r\n{"is": 1}\r\n0\r\n\r\n' + NEXT,
}


@pytest.mark.parametrize("name", GOOD)
async def test_an_answer_arrives_whole_and_nothing_of_it_in_the_next_one(gateway, engine, caplog, upstream, name):
    async def stays(call):
        await call.raw(GOOD[name])
        if name in {"up to the end", "HTTP/1.0"}:
            call.writer.close()

    before = Leftovers()
    for script, expected in ((stays, b'{"is": 1}'), (answers_with(NEXT), b'{"of": "the other"'), (stays, b'{"is": 1}')):
        engine.script = script
        ((status, headers, body),) = (await asked(gateway)).answers
        assert (status, body) == (200, expected)
        assert b"x-trailer" not in headers
    assert not caplog.records
    assert len(engine.calls) == 3
    await gateway.front.relay.close()
    await before.none(engine)


@pytest.mark.parametrize("size", [1_000_000, 3_000_000])
@pytest.mark.parametrize("chunk", [1 << 12, 1 << 20])
async def test_a_very_long_event(gateway, engine, size, chunk):
    event = b"data: " + b"x" * size + b"\n\n"
    engine.script = answers_with(
        SSE, *(b"%x\r\n%b\r\n" % (len(part := event[at : at + chunk]), part) for at in range(0, len(event), chunk)),
        b"0\r\n\r\n",
    )  # fmt: skip
    ((status, _, body),) = (await asked(gateway)).answers
    assert status == 200
    assert body == event


async def test_a_stream_that_is_cut_at_any_byte_ends_with_an_error_that_clients_raise(gateway, engine):
    data = SSE + EVENTS
    for cut in range(len(SSE), len(data)):
        engine.script = answers_with(data[:cut])
        model = f"m{next(MODELS)}"  # an engine that failed so often would not be asked again
        gateway.table.set(model, Ready(replica_at(engine.url, model)))
        ((status, _, body),) = (await asked(gateway, model)).answers
        if status == 502:
            assert cut <= len(SSE) + 3
            continue
        *passed, last = body.removesuffix(b"\n\n").split(b"\n\n")
        error = json.loads(last.strip().removeprefix(b"data: "))["error"]
        assert error["code"] == "upstream_died"
        assert b"data: {}\n\ndata: [DONE]".startswith(b"\n\n".join(passed).rstrip(b"\n"))


ANSWERS = st.sampled_from([WHOLE, SSE + EVENTS, *GOOD.values(), JSON + b"Content-Length: 2\r\n\r\n{}"])


def reference(data):
    """(status, body) as the reference reads the bytes; None when it finds fault or misses something."""
    client = h11.Connection(h11.CLIENT, max_incomplete_event_size=100_000)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    client.send(h11.EndOfMessage())
    try:
        client.receive_data(data)
        client.receive_data(b"")
        status, body = None, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except (h11.RemoteProtocolError, RuntimeError):
        return None
    return status, body


@given(data=ANSWERS, edits=EDITS, cuts=st.lists(st.integers(0, 300), max_size=3), end=st.integers(0, 600))
@examples(150)
async def test_no_answer_is_made_up(gateway, engine, caplog, data, edits, cuts, end):
    data = edited(data, edits)[: 600 - end]
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    engine.script = answers_with(*(data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)))
    engine.calls.clear()
    caplog.clear()
    before = Leftovers()
    model = f"m{next(MODELS)}"
    gateway.table.set(model, Ready(replica_at(engine.url, model)))
    received = (await asked(gateway, model)).received
    gateway.table.remove(model)
    try:
        ((status, _, body),) = parse_answers(received, [b"POST"])
    except h11.RemoteProtocolError as error:
        raise AssertionError(received) from error
    assert b"Traceback" not in received
    assert not caplog.records
    assert len(engine.calls) == 1
    if status == 200 and b'"upstream_died"' not in (body or b""):
        judged = reference(data)
        assert judged is None or judged == (200, body)
    await before.none(engine)
