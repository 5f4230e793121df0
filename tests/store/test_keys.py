import re
import sqlite3

import pytest

from corral.credentials import digest, judge, new_secret
from corral.errors import BadInput, CorralError, DoesNotFit
from corral.store.keys import KeyStore
from corral.store.keyvalues import Limits
from corral.store.state import Store
from corral.store.usage import UsageStore


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    with KeyStore(clock, tmp_path) as opened:
        yield opened


def test_a_secret_is_long_random_and_of_one_form():
    made = {new_secret() for _ in range(200)}
    assert len(made) == 200
    assert all(re.fullmatch(r"sk-corral-[A-Za-z0-9_-]{43}", secret) for secret in made)


def test_a_key_is_read_back_by_another_process(store, tmp_path, clock):
    limits = Limits(models=("a", "b"), requests_per_minute=60, tokens_per_day=10, concurrent=2, priority=-3)
    made = store.create("alice", new_secret(), limits=limits, expires=2000.0, admin=True)
    assert re.fullmatch(r"key-[a-z0-9]{8}", made.id)
    with KeyStore(clock, tmp_path) as other:
        assert other.get("alice") == other.get(made.id) == made
        assert other.listed() == (made,)
    assert (made.status_at(1999.0), made.status_at(2000.0)) == ("living", "expired")


def test_of_a_secret_the_database_holds_only_the_digest(store, tmp_path):
    secrets = [new_secret() for _ in range(3)]
    store.create("alice", secrets[0])
    store.rotate("alice", secrets[1], overlap=60)
    store.create("bob", secrets[2])
    store.revoke("bob")
    store.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert digest(secrets[0].encode()) in kept
    for secret in secrets:
        assert secret.removeprefix("sk-corral-").encode() not in kept


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "-a", "a" * 65, "a\n", "é", "sk-secret", "key-abcdefgh", "a/b", "[red]", "a;b"]
)
def test_a_name_that_cannot_be_is_refused(store, name):
    with pytest.raises(BadInput) as refused:
        store.create(name, new_secret())
    assert "sk-secret" not in str(refused.value)
    assert store.listed() == ()


def test_living_keys_have_different_names_and_a_revoked_one_gives_its_name_free(store):
    first = store.create("ci", new_secret())
    with pytest.raises(DoesNotFit, match="named ci already"):
        store.create("ci", new_secret())
    store.revoke("ci")
    second = store.create("ci", new_secret())
    assert store.get("ci") == second
    assert store.get(first.id).revoked is not None
    assert [key.id for key in store.listed()] == [second.id]
    assert [key.id for key in store.listed(revoked=True)] == [second.id, first.id]


def test_no_two_keys_share_a_secret_not_even_a_revoked_one_s(store):
    secret, later = new_secret(), new_secret()
    store.create("alice", secret)
    for again in (lambda: store.create("bob", secret), lambda: store.rotate("alice", secret)):
        with pytest.raises(DoesNotFit, match="secret is that of the key alice"):
            again()
    store.rotate("alice", later, overlap=60)
    with pytest.raises(DoesNotFit):
        store.create("bob", secret)
    store.revoke("alice")
    with pytest.raises(DoesNotFit, match="revoked"):
        store.create("bob", later)


def test_a_rotated_secret_is_good_for_the_overlap_and_no_longer_than_its_key(store, clock):
    first, second, third = (new_secret().encode() for _ in range(3))
    store.create("alice", first.decode(), expires=1500.0)
    store.rotate("alice", second.decode(), overlap=100)
    assert {s.digest: s.until for s in store.secrets()} == {digest(second): 1500.0, digest(first): 1100.0}
    clock.now = 1450.0
    store.rotate("alice", third.decode(), overlap=100)
    assert {s.digest: s.until for s in store.secrets()} == {digest(third): 1500.0, digest(second): 1500.0}
    store.rotate("alice", new_secret())
    assert len(store.secrets()) == 1
    store.revoke("alice")
    assert store.secrets() == ()


def test_only_what_is_named_changes_and_none_takes_a_limit_away(store):
    store.create("alice", new_secret(), limits=Limits(requests_per_minute=5, priority=2), expires=5000.0)
    changed = store.change("alice", requests_per_minute=None, tokens_per_minute=9, name="al", admin=True)
    assert changed == store.get("al")
    assert changed.limits == Limits(tokens_per_minute=9, priority=2)
    assert (changed.expires, changed.admin) == (5000.0, True)
    store.create("bob", new_secret())
    with pytest.raises(DoesNotFit):
        store.change("bob", name="al")


@pytest.mark.parametrize(
    "fields",
    [{"requests_per_minute": 0}, {"tokens_per_day": -1}, {"priority": 101}, {"models": ("a b",)}, {"concurrent": 1.5},
     {"expires": 1000.0}, {"nothing": 1}],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_refused_in_two_sentences(store, fields):
    made = store.create("alice", new_secret())
    with pytest.raises(BadInput) as refused:
        store.change("alice", **fields)
    assert refused.value.cause.endswith(".")
    assert refused.value.remedy.endswith(".")
    assert store.get("alice") == made


def test_a_revoked_key_stays_for_its_usage_and_cannot_come_back(store):
    key = store.create("alice", new_secret())
    assert store.revoke("alice") == store.revoke(key.id)
    for act in (lambda: store.change("alice", priority=1), lambda: store.rotate("alice", new_secret())):
        with pytest.raises(DoesNotFit, match="revoked, for good"):
            act()
    assert store.configured()
    store.forget("alice")
    assert not store.configured()
    assert store.listed(revoked=True) == ()
    assert store.names() == {key.id: "alice"}
    with pytest.raises(BadInput):
        store.get("alice")


def test_a_key_that_is_not_revoked_is_not_forgotten(store):
    store.create("alice", new_secret())
    with pytest.raises(DoesNotFit, match="not revoked"):
        store.forget("alice")


def test_every_change_is_seen_in_one_number_and_use_is_none(store, tmp_path):
    seen = [store.revision()]
    key = store.create("alice", new_secret())
    for act in (
        lambda: store.create("bob", new_secret()),
        lambda: store.change("alice", priority=1),
        lambda: store.rotate("alice", new_secret()),
        lambda: store.revoke("alice"),
        lambda: store.forget("alice"),
        lambda: store.revoke("bob"),
    ):
        seen.append(store.revision())
        act()
    seen.append(store.revision())
    assert seen == sorted(set(seen))
    with UsageStore(tmp_path) as usage:
        usage.add({}, {key.id: 77.0, "key-unknown1": 5.0})
    assert store.revision() == seen[-1]


def test_use_only_moves_forward(store, tmp_path):
    key = store.create("alice", new_secret())
    with UsageStore(tmp_path) as usage:
        usage.add({}, {key.id: 77.0})
        usage.add({}, {key.id: 50.0})
    assert store.get("alice").last_used == 77.0


def test_keys_come_newest_first_in_pages(store):
    ids = [store.create(f"k{number}", new_secret()).id for number in range(5)][::-1]
    assert [key.id for key in store.listed(limit=2)] == ids[:2]
    assert [key.id for key in store.listed(limit=2, before=ids[1])] == ids[2:4]
    assert store.listed(before=ids[4]) == ()
    assert store.listed(before="key-nobody00") == ()


def test_what_happens_to_keys_is_told_without_a_secret(store, tmp_path, clock):
    secret = new_secret()
    key = store.create("alice", secret)
    store.change("alice", priority=1)
    store.revoke("alice")
    with Store(clock, tmp_path) as state:
        told = state.events()
    assert [(event.kind, event.text) for event in told] == [
        (kind, f"alice ({key.id})") for kind in ("key.created", "key.changed", "key.revoked")
    ]


def test_limits_of_a_newer_version_are_not_served_without(store, tmp_path):
    store.create("alice", new_secret())
    with sqlite3.connect(tmp_path / "corral.db") as other:
        other.execute("""UPDATE keys SET limits = '{"budget": 5}'""")
    other.close()
    with pytest.raises(CorralError, match="alice cannot be read"):
        store.secrets()


@pytest.mark.parametrize(
    ("secret", "says"),
    [("", "empty"), ("with a space in it, and long", "space"), ("é" * 30, "ASCII"), ("sk-1234", "guessed"),
     ("a" * 40, "guessed"), ("x1" * 300, "longer than 512")],
)  # fmt: skip
def test_secrets_from_elsewhere_that_protect_nothing_are_refused(secret, says):
    assert says in judge(secret)


@pytest.mark.parametrize(
    "secret", ["sk-Xk29dmQpLw01vBnRt7cGh8", new_secret(), "0123456789abcdefghij"], ids=["litellm", "ours", "plain"]
)
def test_secrets_as_other_gateways_make_them_are_taken(secret):
    assert judge(secret) is None
