"""Who a request's headers say it is from; every way to say it twice, wrongly or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.credentials import digest, new_secret
from corral.gateway.desk.values import KeyLimits
from corral.gateway.keyring import ANONYMOUS, Entry, Identity, Keyring, is_admins, is_open, may_administer

GOOD = new_secret().encode()
OTHER = new_secret().encode()
ALICE = Identity("key-alice000", limits=KeyLimits(id="key-alice000", models=("m",)))
BOB = Identity("key-bob00000", admin=True, limits=KeyLimits(id="key-bob00000"))


def ring(*, until=None, **options):
    keyring = Keyring(**options)
    keyring.replace([Entry(digest(GOOD), ALICE, until), Entry(digest(OTHER), BOB)], configured=True)
    return keyring


def bearer(secret, scheme=b"Bearer "):
    return (b"authorization", scheme + secret)


@pytest.mark.parametrize(
    "headers",
    [
        [bearer(GOOD)],
        [bearer(GOOD, b"bearer ")],
        [bearer(GOOD, b"BEARER \t  ")],
        [(b"authorization", b"  Bearer " + GOOD + b" \t")],
        [(b"x-api-key", GOOD)],
        [(b"api-key", b" " + GOOD)],
        [bearer(GOOD), (b"x-api-key", GOOD), (b"api-key", GOOD), bearer(GOOD)],
        [bearer(b""), (b"x-api-key", GOOD)],
        [(b"authorization", b"Basic dXNlcjpwYXNz"), (b"x-api-key", GOOD)],
        [(b"host", b"x"), bearer(GOOD), (b"cookie", b"api-key=" + OTHER)],
    ],
)
def test_the_ways_in_which_clients_hand_over_a_key(headers):
    assert ring().identify(headers, 0.0) is ALICE


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [bearer(b"")],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", GOOD)],
        [(b"authorization", b"Basic " + GOOD)],
        [(b"authorization", b"Bearer\t" + GOOD)],
        [(b"authorization", b"Bearer=" + GOOD)],
        [(b"authorization", b"Bearer \x0b" + GOOD)],
        [bearer(GOOD + b"x")],
        [bearer(GOOD[:-1])],
        [bearer(GOOD.swapcase())],
        [bearer(GOOD + b"\x00")],
        [bearer(GOOD + b", Bearer " + GOOD)],
        [bearer(GOOD + b" " + GOOD)],
        [bearer(b"\xff" * 53)],
        [bearer("ключ".encode())],
        [bearer(b"x" * 10_000)],
        [bearer(GOOD + b"x" * 10_000)],
        [(b"x-api-key", b"Bearer " + GOOD)],
        [(b"cookie", b"authorization=" + GOOD)],
        [(b"x-forwarded-authorization", b"Bearer " + GOOD)],
        [(b"proxy-authorization", b"Bearer " + GOOD)],
        [bearer(GOOD), bearer(OTHER)],
        [bearer(b"wrong"), bearer(GOOD)],
        [bearer(GOOD), bearer(b"wrong")],
        [bearer(GOOD), (b"x-api-key", OTHER)],
        [(b"x-api-key", b"wrong"), (b"api-key", GOOD)],
    ],
)
def test_what_is_no_good_key(headers):
    keyring = ring()
    assert keyring.identify(headers, 0.0) is None
    refusal = keyring.refusal(headers)
    assert (refusal.status, refusal.code) == (401, "invalid_api_key")
    assert (b"www-authenticate", b"Bearer") in refusal.headers
    assert GOOD[:8] not in refusal.body()
    assert keyring.taken_used() == {}


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"api-key"]), st.binary(max_size=80))))
def test_no_header_that_is_guessed_opens_anything(headers):
    keyring = ring()
    assert keyring.identify(headers, 0.0) is None
    assert keyring.refusal(headers).status == 401


@given(st.permutations([b"wrong", GOOD, OTHER]), st.integers(2, 3))
def test_two_different_secrets_are_nobody_s_in_any_order(secrets, count):
    assert ring().identify([(b"x-api-key", secret) for secret in secrets[:count]], 0.0) is None


def test_a_key_is_good_until_it_expires():
    keyring = ring(until=100.0)
    assert keyring.identify([bearer(GOOD)], 99.9) is ALICE
    assert keyring.identify([bearer(GOOD)], 100.0) is None
    assert "expired" in keyring.refusal([bearer(GOOD)]).message
    assert "expired" not in keyring.refusal([bearer(b"wrong")]).message


def test_without_any_key_everyone_on_the_machine_is_let_in_whatever_key_they_show():
    keyring = Keyring()
    for headers in ([], [bearer(b"none")], [bearer(b"a"), bearer(b"b")]):
        assert keyring.identify(headers, 0.0) is ANONYMOUS


def test_the_last_key_s_end_opens_no_door_until_all_are_forgotten():
    keyring = ring()
    keyring.replace([], configured=True)
    assert keyring.identify([], 0.0) is None
    keyring.replace([], configured=False)
    assert keyring.identify([], 0.0) is ANONYMOUS


def test_where_other_machines_reach_it_no_key_means_nobody():
    keyring = Keyring(reached=True)
    assert keyring.identify([], 0.0) is None
    assert "none yet" in keyring.refusal([]).message
    assert Keyring(reached=True, forced=True).identify([], 0.0) is ANONYMOUS
    assert ring(reached=True, forced=True).identify([], 0.0) is None


def test_always_and_never():
    assert Keyring(rule="always").identify([], 0.0) is None
    assert ring(rule="always").identify([bearer(GOOD)], 0.0) is ALICE
    assert ring(rule="never").identify([], 0.0) is ANONYMOUS
    assert ring(rule="never").identify([bearer(GOOD)], 0.0) is ALICE
    assert ring(rule="never", reached=True).identify([], 0.0) is None


def test_use_is_noted_once_a_key():
    keyring = ring()
    for now in (1.0, 2.0):
        keyring.identify([bearer(GOOD)], now)
    assert keyring.taken_used() == {ALICE.id: 2.0}
    assert keyring.taken_used() == {}


def test_paths_are_told_apart_as_they_are_written():
    paths = ("/healthz", "/readyz", "/healthz/", "/HEALTHZ", "/v1/models", "//healthz", "")
    assert [path for path in paths if is_open(path)] == ["/healthz", "/readyz"]
    paths = ("/api", "/api/", "/api/keys", "/apikeys", "/API/keys", "//api/keys")
    assert [path for path in paths if is_admins(path)] == ["/api", "/api/", "/api/keys"]


def test_administering_takes_an_admin_key_or_this_machine_where_nobody_is_asked():
    assert may_administer(BOB, "10.0.0.1")
    assert not may_administer(ALICE, "127.0.0.1")
    assert may_administer(ANONYMOUS, "127.0.0.1")
    assert may_administer(ANONYMOUS, "::1")
    assert not may_administer(ANONYMOUS, "10.0.0.1")
    assert not may_administer(ANONYMOUS, "")


def test_a_key_sees_its_own_models():
    assert ALICE.may_see("m")
    assert not ALICE.may_see("n")
    assert BOB.may_see("n")
