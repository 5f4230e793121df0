"""Whatever is done to keys, in any order: the gateway lets in exactly those whose secret is good at that moment."""

import sqlite3
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from corral.credentials import new_secret
from corral.errors import DoesNotFit
from corral.gateway.keyring import ANONYMOUS, Keyring
from corral.launcher.keys import KeyWatch
from corral.store.database import MIGRATIONS
from corral.store.keys import KeyStore
from corral.store.keyvalues import Limits

NAMES = st.sampled_from(["alice", "bob", "carol"])


class Keys(RuleBasedStateMachine):
    """Beside the real ones, a model: secret -> (name, good until); names that live; names that are remembered."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.now = 1000.0
        self.store = KeyStore(lambda: self.now, Path(self.folder.name))
        self.keyring = Keyring()
        self.watch = KeyWatch(KeyStore(lambda: self.now, Path(self.folder.name)), self.keyring)
        self.good: dict[str, tuple[str, float]] = {}
        self.current: dict[str, str] = {}  # the newest secret of each name that lives
        self.expires: dict[str, float] = {}
        self.revoked: list[str] = []  # ids
        self.spent: list[str] = []  # secrets that are good no more

    def teardown(self):
        self.store.close()
        self.watch._store.close()
        self.folder.cleanup()

    @initialize()
    def begin(self):
        self.watch.look()

    @rule(name=NAMES, expires=st.none() | st.integers(1, 50), rpm=st.none() | st.integers(1, 9))
    def create(self, name, expires, rpm):
        secret, until = new_secret(), None if expires is None else self.now + expires
        try:
            self.store.create(name, secret, limits=Limits(requests_per_minute=rpm), expires=until)
        except DoesNotFit:
            assert name in self.current
            return
        assert name not in self.current
        self.expires[name] = sys.float_info.max if until is None else until
        self.good[secret] = (name, self.expires[name])
        self.current[name] = secret

    @rule(name=NAMES, overlap=st.integers(0, 30))
    def rotate(self, name, overlap):
        if name not in self.current:
            return
        secret = new_secret()
        self.store.rotate(name, secret, overlap=overlap)
        for old in [old for old, (whose, _) in self.good.items() if whose == name and old != self.current[name]]:
            self._spend(old)  # one from before the last rotation
        until = min(self.now + overlap, self.expires[name])
        self.good[self.current[name]] = (name, until)
        self.good[secret] = (name, self.expires[name])
        self.current[name] = secret

    @rule(name=NAMES, expires=st.none() | st.integers(1, 50))
    def prolong(self, name, expires):
        if name not in self.current:
            return
        until = sys.float_info.max if expires is None else self.now + expires
        self.store.change(name, expires=None if expires is None else until)
        before, self.expires[name] = self.expires[name], until
        earlier = self.store.get(name).earlier_until
        for secret, (whose, _) in list(self.good.items()):
            if whose == name:
                own = secret == self.current[name]
                self.good[secret] = (name, until if own else min(earlier or before, until))

    @rule(name=NAMES)
    def revoke(self, name):
        if name not in self.current:
            return
        self.revoked.append(self.store.revoke(name).id)
        del self.current[name], self.expires[name]
        for secret in [secret for secret, (whose, _) in self.good.items() if whose == name]:
            self._spend(secret)

    @rule()
    def forget(self):
        if self.revoked:
            self.store.forget(self.revoked.pop(0))

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds):
        self.now += seconds

    @invariant()
    def exactly_the_good_ones_come_in(self):
        self.watch.look()
        nobody_asked = not self.current and not self.revoked
        for secret in (*self.good, *self.spent[-5:], new_secret()):
            identity = self.keyring.identify([(b"x-api-key", secret.encode())], self.now)
            name, until = self.good.get(secret, ("", 0.0))
            if self.now < until:
                assert identity is not None
                assert identity.id == self.store.get(name).id
                assert identity.limits.requests_per_minute == self.store.get(name).limits.requests_per_minute
            else:
                assert identity is (ANONYMOUS if nobody_asked else None)

    def _spend(self, secret):
        del self.good[secret]
        self.spent.append(secret)


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_database_from_before_keys_gets_them(tmp_path):
    with sqlite3.connect(tmp_path / "corral.db") as old:
        for statement in filter(str.strip, MIGRATIONS[0].split(";")):
            old.execute(statement)
        old.execute("PRAGMA user_version = 1")
    old.close()
    with KeyStore(lambda: 1.0, tmp_path) as store:
        assert store.create("alice", new_secret()) in store.listed()
