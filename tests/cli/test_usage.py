import json
import time

import pytest

from corral.credentials import new_secret
from corral.store.keys import KeyStore
from corral.store.usage import Counts, Place, UsageStore, day_of


@pytest.fixture
def keys(monkeypatch, tmp_path):
    monkeypatch.setenv("CORRAL_HOME", str(tmp_path))
    today, before = day_of(time.time()), day_of(time.time() - 40 * 86400)
    with KeyStore(time.time) as store, UsageStore() as usage:
        alice, bob = store.create("alice", new_secret()), store.create("bob", new_secret())
        store.revoke("bob")
        usage.add(
            {
                Place(today, alice.id, "m"): Counts(2, 1, 0, 1000, 400, 50, 61.0),
                Place(today, bob.id, "n"): Counts(1, 0, 1, 10, 0, 5, 1.0),
                Place(before, alice.id, "m"): Counts(7, 0, 0, 7, 0, 7, 7.0),
            },
            {},
        )
    return {"alice": alice.id, "bob": bob.id}


def told(corral, *words):
    status, out, err = corral("usage", *words, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def test_by_key_with_the_names_of_revoked_ones(corral, keys):
    document = told(corral)
    assert document["schema"] == "corral.usage/1"
    assert [(row["name"], row["key"], row["requests"]) for row in document["rows"]] == [
        ("alice", keys["alice"], 2), ("bob", keys["bob"], 1)]  # fmt: skip
    assert document["total"] == {
        "requests": 3, "errors": 1, "cancelled": 1, "prompt_tokens": 1010, "cached_tokens": 400, "output_tokens": 55,
        "seconds": 62.0}  # fmt: skip


def test_by_model_and_day_since_when_and_of_whom(corral, keys):
    assert [row["model"] for row in told(corral, "--by", "model")["rows"]] == ["m", "n"]
    assert [row["requests"] for row in told(corral, "--by", "day", "--since", "60d")["rows"]] == [3, 7]
    assert told(corral, "--key", "alice", "--since", "2020-01-01")["total"]["requests"] == 9
    assert told(corral, "--key", keys["bob"], "--by", "model")["rows"][0]["model"] == "n"
    assert told(corral, "--model", "n")["total"]["requests"] == 1
    assert told(corral, "--model", "nothing")["rows"] == []


def test_people_get_a_table(corral, keys):
    shown = corral("usage")[1]
    for words in ("alice", "bob", "1,000", "1 min 1 s", "all"):
        assert words in shown
    assert "Nothing was used" in corral("usage", "--model", "nothing")[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [(("--by", "week"), "'week'"), (("--since", "yesterday"), "'yesterday'"), (("--key", "nobody"), "no key")],
)
def test_what_cannot_be_answered_is_said_in_two_sentences(corral, keys, words, says):
    status, out, err = corral("usage", *words)
    assert (status, out) == (2, "")
    assert says in err
    assert err.count("\n") == 2
