"""No request is served without its key: through the real server, whatever a request looks like."""

import asyncio
import itertools
import json
import logging

import pytest

from corral.credentials import digest, new_secret
from corral.gateway.desk.values import KeyLimits
from corral.gateway.front import FrontSettings
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from gateway.test_wire import talk

GOOD, ADMIN = new_secret(), new_secret()
CHAT = "/v1/chat/completions"
BODY = b'{"model": "m"}'


@pytest.fixture
def keyring():
    keyring = Keyring()
    entries = [
        Entry(digest(GOOD.encode()), Identity("key-alice000", limits=KeyLimits(id="key-alice000", models=("m",)))),
        Entry(digest(ADMIN.encode()), Identity("key-admin000", admin=True)),
    ]
    keyring.replace(entries, configured=True)
    return keyring


@pytest.fixture
async def gateway(engine, keyring):
    gateway = Gateway(FrontSettings(body_limit=1_000_000, access_log=True), keys=keyring)
    for name in ("m", "n"):
        gateway.table.set(name, Ready(replica_at(engine.url, name)))
    await gateway.start(port=0)
    yield gateway
    await gateway.stop(grace=0)


def request(path, *headers, method="POST", body=BODY):
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: localhost", b"Connection: close", *headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + (body or b"")


def bearer(secret):
    return f"Authorization: Bearer {secret}".encode()


async def asked(gateway, path, *headers, **options):
    """Status, headers and JSON of an answer."""
    answer = await talk(gateway, request(path, *headers, **options))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, head.lower(), json.loads(body) if body.startswith(b"{") else body


async def test_a_good_key_is_served_and_stays_here(gateway, engine):
    for header in (bearer(GOOD), b"AUTHORIZATION: bearer " + GOOD.encode(), b"X-Api-Key: " + GOOD.encode()):
        status, _, _ = await asked(gateway, CHAT, header)
        assert status == 200
    told = json.dumps([[call.headers, call.body.decode()] for call in engine.calls])
    assert len(engine.calls) == 3
    assert GOOD not in told


WRONG = [
    (),
    (b"Authorization: Bearer",),
    (b"Authorization: Bearer ",),
    (b"Authorization:",),
    (b"Authorization: " + GOOD.encode(),),
    (b"Authorization: Basic " + GOOD.encode(),),
    (b"Authorization: Bearer wrong",),
    (b"Authorization: Bearer " + GOOD.encode() + b"x",),
    (b"Authorization: Bearer " + b"k" * 10_000,),
    (b"Authorization: Bearer \xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\xff",),
    (bearer("wrong"), bearer(GOOD)),
    (bearer(GOOD), bearer("wrong")),
    (bearer(GOOD), bearer(ADMIN)),
    (bearer(GOOD), b"x-api-key: wrong"),
    (b"Cookie: Authorization=" + GOOD.encode(),),
    (b"X-Authorization: Bearer " + GOOD.encode(),),
    (b"Authorization : Bearer " + GOOD.encode(),),
    (b"X: a\r\n Authorization: Bearer " + GOOD.encode(),),
]


PLACES = ((CHAT, "POST", BODY), ("/v1/models", "GET", None), ("/metrics", "GET", None))


async def test_no_other_key_is(gateway, engine):
    for headers, (path, method, body) in itertools.product(WRONG, PLACES):
        status, head, told = await asked(gateway, path, *headers, method=method, body=body)
        if status == 400:  # it is not even HTTP
            continue
        assert status == 401
        assert told["error"]["code"] == "invalid_api_key"
        assert b"www-authenticate: bearer" in head
        assert GOOD[-8:] not in json.dumps(told)
    assert not engine.calls


PATHS = [
    CHAT, "/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/v1/./chat/completions",
    "/healthz/../v1/chat/completions", "/healthz/..%2fv1/chat/completions", "/healthz%2f..%2fv1%2fchat%2fcompletions",
    "/v1/chat/completions;/healthz", "/v1/chat/completions?/healthz", "/v1/chat/completions%3f/healthz",
    "/v1/chat/completions%00/healthz", "/%76%31/chat/completions", "/V1/CHAT/COMPLETIONS", "/healthz%00/v1/models",
    "/v1/models", "/v1/models/m", "/v1/models/..%2f..%2fhealthz", "/metrics", "/metrics/", "/%6detrics", "/api",
    "/api/keys", "/%61pi/keys", "/", "/nothing", "/v1/load_lora_adapter", "/HEALTHZ", "/healthz/", "//healthz",
    "/healthz;x", "http://localhost/v1/chat/completions", "http://localhost/healthz/../v1/models", "*",
]  # fmt: skip


async def test_no_path_leads_around_the_door(gateway, engine):
    for path in PATHS:
        for method in ("GET", "POST", "HEAD", "DELETE", "PATCH", "TRACE"):
            answer = await talk(gateway, request(path, method=method))
            assert int(answer.split(b" ", 2)[1]) in {400, 401}, (method, path, answer)
    assert not engine.calls


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz?x=1", "/%68ealthz"])
async def test_whether_it_lives_is_told_to_everyone_and_no_more(gateway, path):
    status, _, told = await asked(gateway, path, method="GET", body=None)
    assert (status, told) == (200, {"ready": True} if "ready" in path else {"status": "alive"})
    _, _, told = await asked(gateway, path, bearer("wrong"), method="GET", body=None)
    assert "deployments" not in told


async def test_a_key_is_told_more(gateway):
    _, _, told = await asked(gateway, "/readyz", bearer(GOOD), method="GET", body=None)
    assert set(told["deployments"]) == {"m", "n"}


async def test_a_key_sees_the_models_that_it_may_use(gateway):
    for secret, names in ((GOOD, ["m"]), (ADMIN, ["m", "n"])):
        _, _, told = await asked(gateway, "/v1/models", bearer(secret), method="GET", body=None)
        assert [model["id"] for model in told["data"]] == names
    status, _, _ = await asked(gateway, "/v1/models/n", bearer(GOOD), method="GET", body=None)
    assert status == 404


@pytest.mark.parametrize(("secret", "status"), [(None, 401), (GOOD, 403), (ADMIN, 404)], ids=["none", "good", "admin"])
async def test_the_admin_api_takes_an_admin_key(gateway, secret, status):
    headers = [bearer(secret)] if secret else []
    for path in ("/api", "/api/", "/api/keys", "/%61pi/keys"):
        answered, _, told = await asked(gateway, path, *headers, method="GET", body=None)
        assert answered == status
        if status == 403:
            assert told["error"]["code"] == "permission_denied"


async def test_the_door_stands_before_the_body(gateway):
    """A refusal comes without a byte of a body that would take a gigabyte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n" % CHAT.encode())
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_an_upload_is_not_invited_before_the_key_is_known(gateway):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: x.localhost\r\nExpect: 100-continue\r\n" % CHAT.encode())
    writer.write(b"Content-Length: 14\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 401 ")
    writer.close()


async def test_a_browser_asks_without_a_key_what_it_may_send_and_gets_nothing_else(gateway, engine):
    origin = b"Origin: http://localhost:3000"
    status, head, told = await asked(gateway, CHAT, origin, method="OPTIONS", body=None)
    assert (status, told) == (204, b"")
    assert b"access-control-allow-headers: authorization" in head
    status, head, _ = await asked(gateway, CHAT, origin)
    assert status == 401
    assert b"access-control-allow-origin" in head  # so that the page can read why
    assert not engine.calls


async def test_a_foreign_page_is_refused_though_it_has_a_key(gateway, engine):
    status, _, _ = await asked(gateway, CHAT, bearer(GOOD), b"Origin: https://evil.example")
    assert status == 403
    assert not engine.calls


async def test_each_request_of_a_connection_needs_its_own_key(gateway, engine):
    with_key = request(CHAT, bearer(GOOD)).replace(b"Connection: close\r\n", b"")
    answers = await talk(gateway, with_key + request(CHAT))
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.count(b"HTTP/1.1 401 ") == 1
    assert len(engine.calls) == 1


async def test_a_revoked_key_ends_no_request_that_runs_and_begins_none(gateway, engine, keyring):
    go_on = asyncio.Event()

    async def script(call):
        await call.stream()
        await call.chunk(b"data: 1\n\n")
        await go_on.wait()
        await call.chunk(b"data: 2\n\n")
        await call.end()

    engine.script = script
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request(CHAT, bearer(GOOD)))
    await asyncio.wait_for(reader.readuntil(b"data: 1"), 5)
    keyring.replace([], configured=True)
    status, _, _ = await asked(gateway, CHAT, bearer(GOOD))
    assert status == 401
    go_on.set()
    assert b"data: 2" in await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_the_access_log_names_the_key_by_its_id(gateway, caplog):
    with caplog.at_level(logging.INFO, "corral.gateway.access"):
        await asked(gateway, CHAT, bearer(GOOD))
        await asked(gateway, CHAT, bearer("wrong-secret-of-somebody"))
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "corral.gateway.access"]
    assert [(line["key"], line["status"]) for line in lines] == [("key-alice000", 200), (None, 401)]
    assert GOOD not in caplog.text
    assert "wrong-secret" not in caplog.text
