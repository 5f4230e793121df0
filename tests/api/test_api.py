"""The admin API through the real server: keys, usage, status and events as JSON, for admin keys alone."""

import json
import time

import aiohttp
import pytest

from corral.cluster.values import Cluster, Node
from corral.credentials import digest
from corral.store.events import tell
from corral.store.keyvalues import Limits
from corral.store.state import Store
from corral.store.usage import Counts, Place, UsageStore, day_of
from corral.store.values import DeploymentRequest, Progress

JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def call(admin, gateway):
    """Ask with the admin key; (status, JSON)."""
    headers = JSON | {"Authorization": f"Bearer {admin}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}", headers=headers) as http:

        async def call(method, path, body=None, **options):
            content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            async with http.request(method, path, data=content, **options) as response:
                assert response.status >= 400 or response.headers["cache-control"] == "no-store"
                return response.status, await response.json()

        yield call


async def test_a_key_from_its_making_to_its_end(call, keys, gateway):
    status, made = await call("POST", "/api/keys", {"name": "alice", "requests_per_minute": 5, "models": ["m"]})
    assert status == 201
    assert made["key"]["limits"]["requests_per_minute"] == 5
    secrets = {secret.digest: secret.key.name for secret in keys.secrets()}
    assert secrets[digest(made["secret"].encode())] == "alice"
    key = made["key"]["id"]
    for called in (key, "alice"):
        assert await call("GET", f"/api/keys/{called}") == (200, made["key"])
    changed = {"requests_per_minute": None, "priority": 3, "expires_in": 60, "name": "al"}
    status, told = await call("PATCH", f"/api/keys/{key}", changed)
    assert (status, told["name"], told["limits"]["models"], told["limits"]["priority"]) == (200, "al", ["m"], 3)
    assert told["limits"]["requests_per_minute"] is None
    assert told["expires"] == pytest.approx(time.time() + 60, abs=30)
    status, told = await call("PATCH", f"/api/keys/{key}", {"expires_in": None})
    assert (told["expires"], told["status"]) == (None, "living")
    status, told = await call("DELETE", f"/api/keys/{key}")
    assert (status, told["status"]) == (200, "revoked")
    assert await call("DELETE", f"/api/keys/{key}") == (200, told)
    assert (await call("PATCH", f"/api/keys/{key}", {"priority": 1}))[0] == 409
    assert made["secret"] not in json.dumps(await call("GET", "/api/keys?revoked=true"))


async def test_keys_in_pages(call, keys):
    for number in range(4):
        keys.create(f"k{number}", f"a-long-secret-of-number-{number}")
    keys.revoke("k3")
    _, first = await call("GET", "/api/keys?limit=2")
    assert [key["name"] for key in first["keys"]] == ["k2", "k1"]
    _, second = await call("GET", f"/api/keys?limit=2&before={first['next']}")
    assert [key["name"] for key in second["keys"]] == ["k0", "root"]
    assert (second["next"], second["asked"]) == (None, True)
    _, told = await call("GET", "/api/keys?revoked=true&limit=1")
    assert told["keys"][0]["status"] == "revoked"


async def test_usage_by_key_model_and_day(call, keys, tmp_path):
    key = keys.create("alice", "a-long-secret-of-alice-1", limits=Limits())
    now = time.time()
    with UsageStore(tmp_path) as usage:
        usage.add({Place(day_of(now - back * 86400), key.id, "m"): Counts(1, 0, 0, 5, 0, 5) for back in range(3)}, {})
    _, told = await call("GET", "/api/usage")
    assert [(row["name"], row["requests"], row["prompt_tokens"]) for row in told["rows"]] == [("alice", 3, 15)]
    _, told = await call("GET", "/api/usage?by=day&limit=2&key=alice&model=m")
    assert [row["day"] for row in told["rows"]] == [day_of(now), day_of(now - 86400)]
    _, told = await call("GET", f"/api/usage?by=day&limit=2&before={told['next']}")
    assert [row["day"] for row in told["rows"]] == [day_of(now - 2 * 86400)]
    assert told["next"] is None
    assert (await call("GET", f"/api/usage?since={day_of(now)}&by=model"))[1]["rows"][0]["requests"] == 1
    assert (await call("GET", "/api/usage?key=nobody"))[0] == 404


async def test_status_says_how_deployments_stand(call, tmp_path):
    with Store(time.time, tmp_path) as store:
        for name in ("up", "loads", "broke", "ended"):
            store.request(DeploymentRequest(name=name, model="x.gguf", cluster=Cluster(nodes=(Node(name="n"),))))
            store.move(name, "launching")
        store.progress("loads", Progress(stage="nodes", subject="", fraction=1.0, text=""))
        store.progress("loads", Progress(stage="load", subject="", fraction=0.5, text=""))
        store.move("up", "ready", engine="llamacpp", layout="tp1", nodes=("n",), rss={"r": 7}, tokens_per_second=9.5)
        failure = {"cause": "It broke.", "remedy": "Mend it.", "code": 3}
        store.move("broke", "failed", failure=failure)
        store.want("ended", "stopped")
        store.move("ended", "stopping")
        store.move("ended", "stopped")
    status, told = await call("GET", "/api/status")
    assert status == 200
    shown = {one["name"]: one for one in told["deployments"]}
    assert set(shown) == {"up", "loads", "broke"}
    assert (shown["up"]["memory"], shown["up"]["tokens_per_second"], shown["up"]["nodes"]) == (7, 9.5, ["n"])
    assert (shown["loads"]["stage"], shown["loads"]["fraction"]) == ("load", 0.5)
    assert shown["broke"]["failure"] == {"cause": "It broke.", "remedy": "Mend it."}


async def test_events_in_pages(call, keys):
    for number in range(5):
        tell(keys._database, float(number), None, "test", str(number))
    _, first = await call("GET", "/api/events?limit=2")
    assert [event["text"] for event in first["events"]] == ["4", "3"]
    _, second = await call("GET", f"/api/events?limit=3&before={first['next']}")
    assert [event["text"] for event in second["events"]] == ["2", "1", "0"]


WRONG = [
    ("POST", "/api/keys", b"{", 400, "invalid_value"),
    ("POST", "/api/keys", b"", 400, "invalid_value"),
    ("POST", "/api/keys", b"\xff", 400, "invalid_value"),
    ("POST", "/api/keys", b"[" * 10_000, 400, "invalid_value"),
    ("POST", "/api/keys", {}, 400, "invalid_value"),
    ("POST", "/api/keys", {"name": "a", "surprise": 1}, 400, "invalid_value"),
    ("POST", "/api/keys", {"name": "sk-secret"}, 400, "invalid_value"),
    ("POST", "/api/keys", {"name": "a", "requests_per_minute": "5"}, 400, "invalid_value"),
    ("POST", "/api/keys", {"name": "a", "expires_in": -1}, 400, "invalid_value"),
    ("POST", "/api/keys", {"name": "root"}, 409, "conflict"),
    ("POST", "/api/keys", b" " * 70_000, 413, "request_too_large"),
    ("PATCH", "/api/keys/root", {"priority": None}, 400, "invalid_value"),
    ("PATCH", "/api/keys/nobody", {"priority": 1}, 404, "not_found"),
    ("GET", "/api/keys/nobody", None, 404, "not_found"),
    ("DELETE", "/api/keys/nobody", None, 404, "not_found"),
    ("GET", "/api/keys?limit=0", None, 400, "invalid_value"),
    ("GET", "/api/keys?limit=1_0", None, 400, "invalid_value"),
    ("GET", "/api/keys?limit=1&limit=2", None, 400, "invalid_value"),
    ("GET", "/api/keys?limit", None, 400, "invalid_value"),
    ("GET", "/api/keys?%ff=1", None, 400, "invalid_value"),
    ("GET", "/api/usage?since=yesterday", None, 400, "invalid_value"),
    ("GET", "/api/usage?by=week", None, 400, "invalid_value"),
    ("GET", "/api/events?before=x", None, 400, "invalid_value"),
    ("GET", "/api/status?x=1", None, 400, "invalid_value"),
    ("GET", "/api", None, 404, "unknown_url"),
    ("GET", "/api/", None, 404, "unknown_url"),
    ("GET", "/api/keys/", None, 404, "unknown_url"),
    ("GET", "/api/keys/a/b", None, 404, "unknown_url"),
    ("PUT", "/api/keys", None, 405, "method_not_allowed"),
    ("DELETE", "/api/usage", None, 405, "method_not_allowed"),
    ("POST", "/api/openapi.json", None, 405, "method_not_allowed"),
]


async def test_what_cannot_be_is_refused_in_one_form_and_changes_nothing(call, keys):
    before = keys.revision()
    for method, path, body, status, code in WRONG:
        answered, told = await call(method, path, body)
        assert (answered, told["error"]["code"]) == (status, code), (method, path, body, told)
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert "sk-secret" not in json.dumps(told)
    assert keys.revision() == before


async def test_a_database_that_cannot_be_read_is_a_503(call, keys):
    keys._database.execute("ALTER TABLE keys RENAME TO elsewhere")
    status, told = await call("GET", "/api/keys")
    assert (status, told["error"]["code"], told["error"]["type"]) == (503, "unavailable", "server_error")


async def test_only_admin_keys_come_in(call, keys, gateway, admin):
    keys.create("plain", "a-long-secret-of-plain-1")
    gateway.watch.look()
    for secret, expected in ((None, 401), ("wrong", 401), ("a-long-secret-of-plain-1", 403), (admin, 200)):
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        for path in ("/api/keys", "/api/status", "/api/usage", "/api/events", "/api/openapi.json"):
            url = f"http://127.0.0.1:{gateway.port}{path}"
            async with aiohttp.request("GET", url, headers=headers) as response:
                assert response.status == expected


async def test_while_there_are_no_keys_programs_here_may_make_the_first(gateway):
    url = f"http://127.0.0.1:{gateway.port}/api/keys"
    async with aiohttp.request("POST", url, data=b'{"name": "first", "admin": true}') as response:
        assert response.status == 201
        secret = (await response.json())["secret"]
    gateway.watch.look()
    async with aiohttp.request("GET", url) as response:
        assert response.status == 401
    async with aiohttp.request("GET", url, headers={"x-api-key": secret}) as response:
        assert response.status == 200


async def test_a_foreign_page_makes_no_key(gateway, keys):
    url = f"http://127.0.0.1:{gateway.port}/api/keys"
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    async with aiohttp.request("POST", url, data=b'{"name": "evil", "admin": true}', headers=headers) as response:
        assert response.status == 403
    assert keys.listed() == ()


async def test_a_page_that_may_ask_reads_which_methods_there_are(gateway):
    url = f"http://127.0.0.1:{gateway.port}/api/keys/x"
    async with aiohttp.request("OPTIONS", url, headers={"Origin": "http://localhost:3000"}) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-methods"] == "GET, PATCH, DELETE"
        assert response.headers["allow"] == "GET, PATCH, DELETE, OPTIONS"


async def test_the_metrics_name_the_api_as_one_route(call, gateway):
    await call("GET", "/api/keys/nobody")
    page = gateway.metrics.exposition(gateway.admission.standing()).decode()
    assert 'route="/api"' in page
    assert "nobody" not in page
