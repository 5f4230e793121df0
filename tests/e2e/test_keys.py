"""Keys and https as a person uses them: made, limited, revoked, while a head serves; and where no secret is."""

import json
import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from e2e.program import Corral, free_port
from gateway.certificates import Authority

pytestmark = pytest.mark.slow
DETACHED = ("up", "--detach", "--context", 512)
BODY = {"messages": [{"role": "user", "content": "a word that stands nowhere else: xylophoneum"}], "max_tokens": 4}


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def pair(authority, tmp_path):
    return authority.pair(tmp_path)


def ask(url, secret=None, body=None, trust=None):
    """The status of an answer, and its JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {secret}"} if secret else {})
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def head(corral: Corral):
    return corral.json("status")["head"]


def soon(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_key_s_life_beside_a_head_and_no_secret_on_disk(corral):
    corral(*DETACHED, "--port", 0)
    url = head(corral)["url"]
    assert ask(f"{url}/v1/models")[0] == 200
    secret = corral("keys", "create", "alice", "--rpm", 600).stdout.strip()
    soon(lambda: ask(f"{url}/v1/models")[0] == 401)
    assert ask(f"{url}/v1/chat/completions", secret, BODY)[0] == 200
    status, told = ask(f"{url}/v1/chat/completions", "sk-wrong-secret-of-somebody", BODY)
    assert (status, told["error"]["code"]) == (401, "invalid_api_key")
    assert ask(f"{url}/v1/chat/completions", None, BODY)[0] == 401
    assert ask(f"{url}/healthz")[0] == 200
    assert ask(f"{url}/readyz")[1] == {"ready": True}
    soon(lambda: corral.json("keys", "show", "alice")["key"]["last_used"])
    corral("keys", "revoke", "alice")
    soon(lambda: ask(f"{url}/v1/models", secret)[0] == 401)
    shown = corral("keys", "list", "--all").stdout + corral("events").stdout + corral("status", "--json").stdout
    corral("down")
    kept = b"".join(path.read_bytes() for path in corral.home.rglob("*") if path.is_file())
    for word in (secret[-20:], "wrong-secret", "xylophoneum"):
        assert word not in shown
        assert word.encode() not in kept
    corral.nothing_is_left()


def test_other_machines_are_served_with_keys_and_over_https(corral, pair, authority):
    trust = ssl.create_default_context(cadata=authority.root.decode())
    tls = ("--tls-cert", pair.cert, "--tls-key", pair.key)
    cause, remedy = corral.refused(*DETACHED, "--port", 0, "--host", "0.0.0.0", *tls)
    assert "no keys yet" in cause
    assert "corral keys create" in remedy
    assert "--allow-unkeyed" in remedy
    secret = corral("keys", "create", "alice").stdout.strip()
    told = corral(*DETACHED, "--port", 0, "--host", "0.0.0.0", *tls)
    there = head(corral)
    assert there["url"] == f"https://0.0.0.0:{there['port']}"
    assert f"{there['url']}/v1" in told.stdout
    url = f"https://localhost:{there['port']}/v1/chat/completions"
    assert ask(url, secret, BODY, trust)[0] == 200
    assert ask(url, None, BODY, trust)[0] == 401
    with pytest.raises(OSError, match=r"closed|reset|status line|BadStatusLine|disconnected"):
        urllib.request.urlopen(url.replace("https", "http"), timeout=10)

    # The head is killed; the next one serves in the same way, without being told again.
    os.kill(there["pid"], signal.SIGKILL)
    corral.wait_for(lambda: not Path(f"/proc/{there['pid']}").exists(), "the end of the head")
    corral(*DETACHED)
    assert head(corral)["url"] == there["url"]
    assert ask(url, secret, BODY, trust)[0] == 200
    corral("down")


def test_a_certificate_that_cannot_serve_is_refused_before_anything_starts(corral, pair, tmp_path):
    cause, _ = corral.refused(*DETACHED, "--tls-cert", pair.cert)
    assert "certificate and its key" in cause
    pair.key.chmod(0o644)
    cause, remedy = corral.refused(*DETACHED, "--tls-cert", pair.cert, "--tls-key", pair.key)
    assert "Every user" in cause
    assert "chmod" in remedy
    assert not (corral.home / "head.lock").exists()


def test_an_endpoint_without_tls_is_not_taken_for_one_with(corral, pair):
    corral(*DETACHED, "--port", 0)
    cause, _ = corral.refused("up", "--name", "other", "--tls-cert", pair.cert, "--tls-key", pair.key, status=1)
    assert "already serves at http://" in cause
    corral("down")


def test_a_cluster_file_says_how_it_is_served_and_usage_is_told(corral, tmp_path):
    port = free_port()
    file = tmp_path / "cluster.yaml"
    file.write_text(f"gateway: {{port: {port}, access_log: true, key_required: always}}\nnodes: [{{name: here}}]\n")
    corral(*DETACHED, "--cluster", file)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    assert ask(url, None, BODY)[0] == 401
    secret = corral("keys", "create", "alice").stdout.strip()
    soon(lambda: ask(url, secret, BODY)[0] == 200)
    corral("down")
    (row,) = corral.json("usage")["rows"]
    assert (row["name"], row["requests"], row["errors"], row["output_tokens"]) == ("alice", 1, 0, 4)
    lines = [json.loads(line) for line in (corral.home / "logs/access.log").read_text().splitlines()]
    assert [line["status"] for line in lines][-1] == 200
    assert lines[-1]["key"] == row["key"]
