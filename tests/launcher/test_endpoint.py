"""The endpoint as a head serves it: keys that change elsewhere, use that is noted, and settings that are remembered."""

import asyncio
import json
import ssl
import time
from pathlib import Path

import aiohttp
import pytest

from corral.cluster.endpoint import EndpointSettings
from corral.credentials import new_secret
from corral.errors import BadInput
from corral.gateway.desk.values import Replica
from corral.gateway.table import Loading, Ready
from corral.launcher.endpoint import serve
from corral.store.keys import KeyStore
from corral.store.keyvalues import Limits
from corral.store.settings import endpoint_of_last_head, remember_endpoint
from corral.store.usage import UsageStore
from gateway.certificates import Authority
from gateway.conftest import eventually
from gateway.fake_engine import FakeEngine

NOBODY = b'{"model": "nobody"}'
ANY_PORT = EndpointSettings(port=0)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def keys(folder):
    with KeyStore(time.time) as store:
        yield store


@pytest.fixture
async def engine():
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


async def status(endpoint, secret=None, path="/v1/models"):
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    url = f"http://127.0.0.1:{endpoint.gateway.port}{path}"
    async with aiohttp.request("GET", url, headers=headers) as response:
        return response.status


async def soon(endpoint, expected, secret=None):
    """Within a second, as is promised; the deadline is for busy machines."""
    deadline = time.monotonic() + 5
    while await status(endpoint, secret) != expected:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", [0, 2])
async def test_keys_that_change_elsewhere_hold_at_once(keys, workers):
    first, second = new_secret(), new_secret()
    async with serve(EndpointSettings(port=0, workers=workers), unkeyed=False) as endpoint:
        assert await status(endpoint) == 200
        keys.create("alice", first)
        await soon(endpoint, 401)
        await soon(endpoint, 200, first)
        keys.rotate("alice", second)
        await soon(endpoint, 401, first)
        await soon(endpoint, 200, second)
        keys.revoke("alice")
        await soon(endpoint, 401, second)
        await soon(endpoint, 401)
        keys.forget("alice")
        await soon(endpoint, 200)


async def test_a_key_that_was_made_before_holds_from_the_first_request(keys):
    secret = new_secret()
    keys.create("alice", secret, limits=Limits(models=("m",)))
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        assert await status(endpoint) == 401
        assert await status(endpoint, secret) == 200
        assert await status(endpoint, secret, "/api/keys") == 403


async def test_a_database_that_fails_later_opens_and_closes_no_door(keys, folder, capsys):
    secret = new_secret()
    keys.create("alice", secret)
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        keys._database.execute("ALTER TABLE keys RENAME TO elsewhere")
        said = ""

        def told():
            nonlocal said
            said += capsys.readouterr().err
            return "no such table" in said

        await eventually(told)
        assert await status(endpoint) == 401
        assert await status(endpoint, secret) == 200
        keys._database.execute("ALTER TABLE elsewhere RENAME TO keys")
        keys.revoke("alice")
        await soon(endpoint, 401, secret)


async def test_use_and_usage_are_written(keys):
    secret = new_secret()
    keys.create("alice", secret)
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        await status(endpoint, secret)
    assert keys.get("alice").last_used == pytest.approx(time.time(), abs=60)
    with UsageStore() as usage:
        assert usage.report("key", since="2000-01-01") == ()  # reading a list is free


def serves(engine, endpoint, script=None):
    if script is not None:
        engine.script = script
    endpoint.gateway.table.set("m", Ready(Replica(id="m", base_url=engine.url, served_name="m")))


async def chat(endpoint, secret=None, body=b'{"model": "m"}'):
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    url = f"http://127.0.0.1:{endpoint.gateway.port}/v1/chat/completions"
    async with aiohttp.request("POST", url, data=body, headers=headers) as response:
        return response.status, await response.json()


async def answers_with_usage(call):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
    await call.json(200, {"choices": [], "usage": usage})


async def test_requests_are_counted_by_key_and_model(keys, engine):
    secret = new_secret()
    key = keys.create("alice", secret)
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        serves(engine, endpoint, answers_with_usage)
        assert (await chat(endpoint, secret))[0] == 200
        assert (await chat(endpoint, secret, NOBODY))[0] == 404
        assert (await chat(endpoint, "wrong"))[0] == 401
        engine.script = refuses
        assert (await chat(endpoint, secret))[0] == 400
    with UsageStore() as usage:
        rows = usage.report("model", since="2000-01-01", keys=[key.id])
        assert usage.report("key", since="2000-01-01")[0].requests == 3  # nobody's is not counted
    assert {row.model: (row.requests, row.errors) for row in rows} == {"m": (2, 1), "": (1, 1)}
    (row,) = (row for row in rows if row.model == "m")
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens) == (10, 4, 5)
    assert 0 < row.seconds < 30


async def refuses(call):
    await call.json(400, {"error": {"message": "no", "type": "invalid_request_error"}})


async def test_a_restart_does_not_give_a_day_s_tokens_anew(keys, engine):
    secret = new_secret()
    keys.create("alice", secret, limits=Limits(tokens_per_day=15))
    statuses = []
    for _ in range(2):
        async with serve(ANY_PORT, unkeyed=False) as endpoint:
            serves(engine, endpoint, answers_with_usage)
            statuses.append((await chat(endpoint, secret))[0])
    assert statuses == [200, 429]


async def test_limits_that_are_changed_elsewhere_hold_at_once(keys, engine):
    secret = new_secret()
    keys.create("alice", secret)
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        serves(engine, endpoint, answers_with_usage)
        assert (await chat(endpoint, secret))[0] == 200
        keys.change("alice", models=("another",))
        deadline = time.monotonic() + 5
        while (await chat(endpoint, secret))[0] == 200:
            assert time.monotonic() < deadline
        status, told = await chat(endpoint, secret)
        assert (status, told["error"]["code"]) == (403, "model_not_allowed")


async def test_other_machines_only_with_keys_or_by_force(keys):
    outside = EndpointSettings(host="0.0.0.0", port=0)
    with pytest.raises(BadInput, match=r"corral keys create NAME.*--allow-unkeyed"):
        async with serve(outside, unkeyed=False):
            pass
    async with serve(outside, unkeyed=True) as endpoint:
        assert await status(endpoint) == 200
    keys.create("alice", new_secret())
    async with serve(outside, unkeyed=False) as endpoint:
        assert await status(endpoint) == 401
        keys.revoke("alice")
        keys.forget("alice")
        url = f"http://127.0.0.1:{endpoint.gateway.port}/v1/models"
        told = ""
        while "none yet" not in told:  # it has seen that there are no keys any more, and lets nobody in for it
            async with aiohttp.request("GET", url) as response:
                assert response.status == 401
                told = await response.text()


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_certificate_is_renewed_where_it_lies(tmp_path, workers):
    authority = Authority()
    pair = authority.pair(tmp_path)
    settings = EndpointSettings(port=0, workers=workers, tls_cert=str(pair.cert), tls_key=str(pair.key))

    async def serial(endpoint):
        trust = ssl.create_default_context(cadata=authority.root.decode())
        place = "127.0.0.1", endpoint.gateway.port
        _, writer = await asyncio.open_connection(*place, ssl=trust, server_hostname="localhost")
        found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.close()
        return found

    async with serve(settings, unkeyed=False) as endpoint:
        before = await serial(endpoint)
        authority.pair(tmp_path)
        deadline = time.monotonic() + 10
        while await serial(endpoint) == before:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_no_secret_is_anywhere_on_disk_or_in_what_is_said(keys, folder, capfd):
    good, wrong, retired = new_secret(), new_secret(), new_secret()
    keys.create("alice", retired, admin=True)
    keys.rotate("alice", good, overlap=60)
    async with serve(ANY_PORT, unkeyed=False) as endpoint:
        for secret in (good, wrong, retired):
            for path in ("/v1/models", f"/v1/models/{secret}", "/metrics", "/nothing"):
                await status(endpoint, secret, path)
        url = f"http://127.0.0.1:{endpoint.gateway.port}/metrics"
        async with aiohttp.request("GET", url, headers={"x-api-key": good}) as response:
            page = await response.text()
    kept = b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
    said = "".join(capfd.readouterr()) + page
    assert kept
    for secret in (good, wrong, retired):
        assert secret[-20:].encode() not in kept
        assert secret[-20:] not in said


async def test_every_setting_is_used(keys, engine, folder):
    settings = EndpointSettings(
        port=0,
        host_names=("Corral.Lan",),
        key_required="always",
        access_log=True,
        body_limit=1024,
        heartbeat=0.1,
        idle_stream=1.0,
        queue=1,
        patience=0.3,
        load_patience=0.2,
    )
    secret = new_secret()
    keys.create("alice", secret)
    async with serve(settings, unkeyed=False) as endpoint:
        serves(engine, endpoint, slowly)
        assert (await chat(endpoint, secret, b'{"model": "m", "user": "%s"}' % (b"x" * 2000)))[0] == 413
        url = f"http://127.0.0.1:{endpoint.gateway.port}/v1/chat/completions"
        body, headers = b'{"model": "m", "stream": true}', {"Authorization": f"Bearer {secret}"}
        async with aiohttp.request("POST", url, data=body, headers=headers) as response:
            told = await response.text()
        assert told.startswith(": ")  # a sign of life, since the engine took longer than the heartbeat
        assert "error" in told  # and the end, since it said nothing for longer than a stream may be idle
        endpoint.gateway.table.set("later", Loading("weights", 0.1))
        began = time.monotonic()
        status, _ = await chat(endpoint, secret, b'{"model": "later"}')
        assert status == 503
        assert time.monotonic() - began < 30  # far below what is usual
        keys.revoke("alice")
        keys.forget("alice")
        deadline = time.monotonic() + 5
        while "none yet" not in (told := (await chat(endpoint, None, NOBODY))[1]["error"]["message"]):
            assert time.monotonic() < deadline, told  # "always": no key is no way in
    lines = [json.loads(line) for line in (folder / "logs" / "access.log").read_text().splitlines()]
    assert [line["status"] for line in lines][:3] == [413, 200, 503]
    assert secret not in json.dumps(lines)


async def slowly(call):
    await asyncio.sleep(0.5)
    await call.stream()
    await call.chunk(b"data: {}\n\n")
    await call.gone.wait()


async def test_names_of_ones_own_are_for_browsers_while_nobody_is_asked():
    async with serve(EndpointSettings(port=0, host_names=("Corral.Lan",)), unkeyed=False) as endpoint:
        url = f"http://127.0.0.1:{endpoint.gateway.port}/v1/models"
        for host, status in (("corral.lan:8000", 200), ("evil.example", 403)):
            async with aiohttp.request("GET", url, headers={"Host": host}) as response:
                assert response.status == status


def test_settings_are_remembered_for_the_next_head():
    assert endpoint_of_last_head() == EndpointSettings()
    settings = EndpointSettings(host="10.0.0.1", port=9000, tls_cert="/c", tls_key="/k", key_required="always")
    remember_endpoint(settings)
    assert endpoint_of_last_head() == settings
    assert settings.under(EndpointSettings(port=1)).port == 1
    assert settings.under(EndpointSettings(port=1)).host == "10.0.0.1"


@pytest.mark.parametrize("one", [{"tls_cert": "/c"}, {"tls_key": "/k"}])
def test_a_certificate_and_its_key_come_together(one):
    with pytest.raises(ValueError, match="go together"):
        EndpointSettings(**one)
