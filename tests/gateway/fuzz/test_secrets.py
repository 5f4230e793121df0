"""Nothing reaches an engine without its key, and no key and no prompt is found where it does not belong."""

import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral import credentials
from corral.gateway import routes
from corral.gateway.desk.values import KeyLimits
from corral.gateway.front import FrontSettings
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Failed, Ready, replica_at
from gateway.conftest import eventually
from gateway.fake_engine import echo, stalls_in_the_stream
from gateway.fuzz.raw import CHAT, converse, examples, parse_answers

KEY = b"sk-corral-0123456789-MARKER-OF-THE-KEY-abcdefg"
ENGINE_KEY = "MARKER-OF-THE-ENGINES-KEY"
PROMPT = b"MARKER-OF-THE-PROMPT"
WRONG = b"sk-corral-9876543210-MARKER-OF-THE-KEY-wrong"
BODY = b'{"model": "m", "prompt": "%b", "messages": [{"role": "user", "content": "%b"}]}' % (PROMPT, PROMPT)


@pytest.fixture
async def gateway(engine):
    keys = Keyring()
    keys.replace([Entry(credentials.digest(KEY), Identity("key-1", limits=KeyLimits(id="key-1")))], configured=True)
    gateway = Gateway(FrontSettings(body_limit=100_000, access_log=True), keys=keys)
    gateway.table.set("m", Ready(replica_at(engine.url, "m", headers=(("Authorization", f"Bearer {ENGINE_KEY}"),))))
    gateway.table.set("f", Failed("It has no memory."))
    await gateway.start(port=0)
    yield gateway
    await gateway.stop(grace=0)


KEYLESS = [
    b"",
    b"Authorization: \r\n",
    b"Authorization: Bearer\r\n",
    b"Authorization: Bearer \r\n",
    b"Authorization: Bearer %b\r\n" % WRONG,
    b"Authorization: Bearer %b\r\n" % KEY[:-1],
    b"Authorization: Bearer %bx\r\n" % KEY,
    b"Authorization: Bearer %b\r\n" % KEY.lower(),
    b"Authorization: Bearer Bearer %b\r\n" % KEY,
    b"Authorization: Bearer %b, Bearer x\r\n" % KEY,
    b'Authorization: Bearer "%b"\r\n' % KEY,
    b"Authorization: Basic %b\r\n" % KEY,
    b"Authorization: %b\r\n" % KEY,
    b"Authorization: Bearer %b\r\nAuthorization: Bearer %b\r\n" % (KEY, WRONG),
    b"Authorization: Bearer %b\r\nX-Api-Key: %b\r\n" % (KEY, WRONG),
    b"Proxy-Authorization: Bearer %b\r\n" % KEY,
    b"Cookie: api_key=%b; Authorization=%b\r\n" % (KEY, KEY),
    b"X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\nX-Real-Ip: 127.0.0.1\r\n",
    b"X-Original-Url: /healthz\r\nX-Rewrite-Url: /healthz\r\nX-Http-Method-Override: OPTIONS\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: Authorization\r\n",
    b"Expect: 100-continue\r\n",
    b"Authorization: Bearer \xff\xfe\r\n",
    b"Authorization: Bearer %b\r\n" % (b"x" * 5000),
]
SPELLINGS = [
    b"%b", b"%b?api_key=" + KEY, b"%b?/healthz", b"%b#/healthz", b"/healthz/..%b", b"/healthz%%2f..%b", b"/healthz;%b",
    b"/%b", b"%b/", b"http://localhost%b", b"http://localhost/healthz/..%b", b"%b;x=y", b"%b%%00", b"%b%%20",
]  # fmt: skip


@pytest.mark.parametrize("path", sorted(routes.FORWARDED))
async def test_no_spelling_of_a_path_or_a_key_gets_a_request_to_the_engine_without_its_key(gateway, engine, path):
    spelt = [spelling % path.encode() for spelling in SPELLINGS]
    spelt += [path.replace("/v1", "/%761").encode(), path.replace("/", "%2f").encode(), path.upper().encode()]
    tricks = [(target, b"") for target in spelt] + [(path.encode(), credentials) for credentials in KEYLESS]
    for method in (b"POST", b"GET", b"PUT", b"TRACE", b"HEAD") if path == routes.CHAT else (b"POST",):
        sent = [
            b"%b %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
            % (method, target, credentials, len(BODY), BODY)
            for target, credentials in tricks
        ]
        talks = await asyncio.gather(*(converse(gateway.port, [data], quiet=0.2, methods=[method]) for data in sent))
        assert not engine.calls
        for data, talk in zip(sent, talks, strict=True):
            statuses = {status for status, _, _ in talk.answers}
            # A HEAD that could not be parsed is answered with a body, before the connection ends.
            assert statuses - {0} <= {400, 401, 404, 405}, data
            assert method == b"HEAD" or 0 not in statuses, data


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/metrics", "/api", "/api/keys"])
async def test_nothing_is_told_without_a_key(gateway, path):
    for credentials_ in KEYLESS:
        head = b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path.encode(), credentials_)
        talk = await converse(gateway.port, [head], quiet=0.01)
        assert [status for status, _, _ in talk.answers][:1] in ([400], [401]), credentials_


async def test_a_key_opens_only_its_own_request_on_a_shared_connection(gateway, engine):
    keyed = CHAT + b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (KEY, len(BODY), BODY)
    keyless = CHAT + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    in_trailer = CHAT + (
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nAuthorization: Bearer %b\r\n\r\n" % (len(BODY), BODY, KEY)
    )
    upgraded = keyed.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost")
    for order, expected in [
        ([keyed, keyless, keyed], [200, 401, 200]),
        ([keyless, in_trailer, keyless, keyed], [401, 401, 401, 200]),
        ([upgraded, keyless], [200, 401]),
    ]:
        engine.calls.clear()
        for pieces in ([b"".join(order)], order):
            talk = await converse(gateway.port, pieces, quiet=0.3, methods=[b"POST"] * 4)
            assert [status for status, _, _ in talk.answers] == expected
        assert len(engine.calls) == 2 * expected.count(200)
    assert all(call.headers["authorization"] == f"Bearer {ENGINE_KEY}" for call in engine.calls)


async def dies_in_the_stream(call):
    await call.stream()
    await call.chunk(b"data: {}\n\n")
    call.die()


async def refuses(call):
    await call.json(500, {"error": {"message": "out of cheese"}})


async def dies(call):
    call.die()


async def breaks_http(call):
    await call.raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + PROMPT)
    call.die()


SCRIPTS = [echo, refuses, dies, dies_in_the_stream, breaks_http]
HEADS = [
    b"Authorization: Bearer " + KEY,
    b"Authorization: Bearer " + WRONG,
    b"Authorization: Bearer %b\r\nX-Api-Key: %b" % (KEY, WRONG),
    b"Authorization: Bearer %b\r\nAuthorization: Bearer %b" % (KEY, KEY),
    b"X-Api-Key: " + KEY,
    b"Api-Key: " + WRONG,
    b"Authorization : Bearer " + KEY,
    b"Authorization: Bearer %b\r\n %b" % (KEY, KEY),
    b"Authorization: Bearer " + KEY + b"\x01",
    b"Authorization: Basic %b\r\nOrigin: http://evil.example" % KEY,
    b"Authorization: Bearer %b\r\nX-Request-Id: mine" % KEY,
]
BODIES = [
    BODY,
    BODY[:-1],
    BODY.replace(b'"m"', b'"f"'),
    BODY.replace(b'"m"', b'"unknown"'),
    BODY.replace(b'"m"', b"1"),
    BODY.replace(b'"m"', b'"m", "stream": true'),
    BODY.replace(b'"m"', b'"m", "max_tokens": "many"'),
    PROMPT,
    b'"%b"' % PROMPT,
    b"\xff" + PROMPT,
    b'{"%b": ' % PROMPT,
    b"[" * 3000 + b'"%b"' % PROMPT,
    b'{"x": "%b"}' % (PROMPT * 6000),  # too large
    b'{"model": "m", "x": 1e999, "%b": NaN, "messages": {"%b": null}}' % (PROMPT, PROMPT),
]


def told(engine_script, answers):
    """What the clients were told by the gateway itself; an engine that repeats the prompt may."""
    return b"" if engine_script is echo else b"".join(answers)


@given(
    head=st.sampled_from(HEADS),
    body=st.sampled_from(BODIES),
    script=st.sampled_from(SCRIPTS),
    path=st.sampled_from([routes.CHAT, routes.EMBEDDINGS, "/v1/nothing", routes.MODELS]),
    length=st.sampled_from([0, 0, 0, 5, -5]),
)
@examples(150)
async def test_no_key_and_no_prompt_leaks(gateway, engine, caplog, capfd, head, body, script, path, length):
    caplog.set_level(logging.DEBUG)
    engine.script = script
    request = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(), head, max(0, len(body) + length), body,
    )  # fmt: skip
    talk = await converse(gateway.port, [request], quiet=0.006, methods=[b"POST", b"GET"])
    received = told(script, [talk.received])
    assert b"MARKER" not in received
    assert b"Traceback" not in received
    assert parse_answers(talk.received, [b"POST", b"GET"]) is not None
    assert not any(KEY.decode() in str(call.headers) for call in engine.calls)
    engine.calls.clear()
    await logged_nothing(caplog, capfd)


async def logged_nothing(caplog, capfd):
    out, err = capfd.readouterr()
    for text in (caplog.text, out, err):
        assert "MARKER" not in text
        assert "Traceback" not in text
    caplog.clear()


async def test_metrics_and_the_access_log_name_the_key_by_its_id_alone(gateway, engine, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    head = b"Authorization: Bearer %b\r\n" % KEY
    for data in (
        CHAT + head + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY),
        b"GET /v1/models?api_key=%b&prompt=%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (KEY, PROMPT, head),
        CHAT + b"Authorization: Bearer %b\r\nContent-Length: 2\r\n\r\n{}" % WRONG,
    ):
        await converse(gateway.port, [data])
    engine.script = stalls_in_the_stream
    await converse(gateway.port, [CHAT + head + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)])  # leaves it
    await eventually(lambda: "cancelled" in caplog.text)
    talk = await converse(gateway.port, [b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % head])
    ((status, _, metrics),) = talk.answers
    assert status == 200
    assert b"MARKER" not in metrics
    assert b'"key-1"' in metrics
    lines = [json.loads(record.message) for record in caplog.records if record.name == "corral.gateway.access"]
    assert len(lines) >= 4
    await logged_nothing(caplog, capfd)
