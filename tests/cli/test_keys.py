"""`corral keys` as it is typed: secrets come out once and go in by a file, never by a word of the command."""

import json
import re

import pytest

from corral.credentials import digest, new_secret
from corral.store.keys import KeyStore


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def stored(home):
    with KeyStore(lambda: 0.0, home) as store:
        return {secret.digest: secret.key for secret in store.secrets()}


def refused(told, *says):
    status, out, err = told
    assert status in {1, 2}, err
    assert out == ""
    assert re.fullmatch(r"error: \S.*\n  try: \S.*\n", err), err
    for words in says:
        assert words in err
    return err


def test_create_prints_the_secret_alone_on_standard_output(corral, home):
    status, out, err = corral(
        "keys", "create", "alice", "--rpm", 60, "--tpm", 9000, "--tokens-per-day", 10**6, "--concurrent", 3,
        "--priority", -2, "--model", "a", "--model", "b/c", "--expires", "30d", "--admin",
    )  # fmt: skip
    assert status == 0
    assert re.fullmatch(r"sk-corral-[A-Za-z0-9_-]{43}\n", out)
    key = stored(home)[digest(out.strip().encode())]
    assert key.limits.model_dump() == {
        "models": ("a", "b/c"), "requests_per_minute": 60, "tokens_per_minute": 9000, "tokens_per_day": 10**6,
        "concurrent": 3, "priority": -2,
    }  # fmt: skip
    assert key.admin
    assert key.expires - key.created == pytest.approx(30 * 86400, abs=60)
    assert out.strip() not in err
    assert "once" in err


def test_programs_get_one_json_document(corral, home):
    made = json.loads(corral("keys", "create", "alice", "--json")[1])
    assert made["schema"] == "corral.key/1"
    assert stored(home)[digest(made["secret"].encode())].id == made["key"]["id"]
    listed = json.loads(corral("keys", "list", "--json")[1])
    assert listed["schema"] == "corral.keys/1"
    assert [(key["name"], key["status"]) for key in listed["keys"]] == [("alice", "living")]
    shown = json.loads(corral("keys", "show", made["key"]["id"], "--json")[1])
    assert shown["key"] == made["key"]
    assert made["secret"] not in json.dumps(listed) + json.dumps(shown)


def test_a_secret_from_a_file_is_taken_and_not_repeated(corral, home, tmp_path):
    secret = "sk-Xk29dmQpLw01vBnRt7cGh8"
    file = tmp_path / "secret"
    file.write_text(secret + "\n")
    status, out, err = corral("keys", "create", "moved", "--from-file", file)
    assert (status, out) == (0, "")
    assert secret not in err
    assert digest(secret.encode()) in stored(home)
    refused(corral("keys", "create", "again", "--from-file", file), "that of the key moved")


def test_a_secret_from_standard_input(corral, home, monkeypatch, tmp_path):
    secret = new_secret()
    file = tmp_path / "secret"
    file.write_text(secret)
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert corral("keys", "create", "moved", "--from-file", "-")[0] == 0
    assert digest(secret.encode()) in stored(home)


@pytest.mark.parametrize("content", [b"", b"sk-1234", b"\xff" * 40, b"two words that are long enough", b"x" * 10_000])
def test_a_file_that_holds_no_good_secret_is_refused(corral, home, tmp_path, content):
    file = tmp_path / "secret"
    file.write_bytes(content)
    told = refused(corral("keys", "create", "moved", "--from-file", file), str(file), "--from-file")
    assert b"sk-1234" not in told.encode()
    assert stored(home) == {}


def test_what_cannot_be_is_refused_in_two_sentences(corral):
    refused(corral("keys", "create", "a b"), "'a b' cannot be a key's name")
    refused(corral("keys", "create", "a", "--expires", "soon"), "'soon'")
    refused(corral("keys", "create", "a", "--expires", "2001-01-01"), "past")
    refused(corral("keys", "create", "a", "--model", "no model"), "models")
    refused(corral("keys", "create", "a", "--from-file", "/nowhere/at/all"), "/nowhere/at/all cannot be read")
    refused(corral("keys", "show", "nobody"), "no key of that name")
    refused(corral("keys", "limit", "nobody", "--rpm", 1), "no key of that name")
    corral("keys", "create", "a")
    refused(corral("keys", "create", "a"), "named a already")
    refused(corral("keys", "limit", "a"), "Nothing to change")
    refused(corral("keys", "rotate", "a", "--overlap", "a while"), "no span of time")


def test_a_secret_typed_by_mistake_is_not_repeated(corral):
    secret = new_secret()
    for words in (("create", secret), ("show", secret), ("revoke", secret), ("limit", secret, "--rpm", 1)):
        assert secret not in refused(corral("keys", *words))


def test_limits_are_changed_one_by_one(corral, home):
    corral("keys", "create", "a", "--rpm", 5, "--model", "m", "--expires", "1d")
    assert corral("keys", "limit", "a", "--rpm", 0, "--tpm", 7, "--all-models", "--expires", "never")[0] == 0
    (key,) = stored(home).values()
    assert (key.limits.requests_per_minute, key.limits.tokens_per_minute, key.limits.models) == (None, 7, None)
    assert key.expires is None
    status, out, _ = corral("keys", "limit", "a", "--admin", "--rename", "b", "--priority", 0)
    assert status == 0
    assert "may use /api" in out
    assert "7 tokens/min" in corral("keys", "show", "b")[1]


def test_rotating_gives_another_secret_to_the_same_key(corral, home):
    before = corral("keys", "create", "a")[1].strip()
    after = corral("keys", "rotate", "a", "--overlap", "1h")[1].strip()
    known = stored(home)
    assert known[digest(before.encode())].id == known[digest(after.encode())].id
    corral("keys", "rotate", "a")
    assert digest(before.encode()) not in stored(home)


def test_the_way_back_to_no_keys_is_said_twice(corral, home):
    assert "for this machine alone" in corral("keys", "list")[1]
    corral("keys", "create", "a")
    refused(corral("keys", "forget", "a"), "last key")
    refused(corral("keys", "forget", "a", "--open"), "not revoked")
    assert "is revoked" in corral("keys", "revoke", "a")[2]
    assert "Every key is revoked" in corral("keys", "list")[1]
    assert "revoked" in corral("keys", "list", "--all")[1]
    refused(corral("keys", "forget", "a"), "last key", "--open")
    assert corral("keys", "forget", "a", "--open")[0] == 0
    assert "for this machine alone" in corral("keys", "list", "--all")[1]


def test_revoking_is_all_or_nothing(corral, home):
    corral("keys", "create", "a")
    refused(corral("keys", "revoke", "a", "nobody"))
    assert len(stored(home)) == 1
