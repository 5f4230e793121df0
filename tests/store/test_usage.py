"""What was used is counted once, is in the database a second later, and is lost by nobody's slowness."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.credentials import new_secret
from corral.store.keys import KeyStore
from corral.store.usage import KEPT_DAYS, Counts, Place, UsageStore, day_of
from corral.store.usagebook import UsageBook

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
ONE = Counts(1, 0, 0, 10, 4, 3, 0.5)


def clock():
    return NOON


@pytest.fixture
def store(tmp_path):
    with UsageStore(tmp_path) as opened:
        yield opened


def eventually(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_counted_for_one_place_is_summed(tmp_path, store):
    book = UsageBook(clock, tmp_path)
    for counts in (Counts(1, 1, 0, seconds=0.25), Counts(1, 0, 1, seconds=0.25), ONE, ONE):
        book.add("key-a", "m", counts, NOON)
    book.close()
    (row,) = store.report("key", since="2026-11-21")
    assert (row.requests, row.errors, row.cancelled) == (4, 1, 1)
    assert (row.prompt_tokens, row.cached_tokens, row.output_tokens, row.seconds) == (20, 8, 6, 1.5)


def test_a_day_ends_at_midnight_of_utc(tmp_path, store):
    midnight = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    book = UsageBook(clock, tmp_path)
    for at in (midnight - 0.001, midnight, midnight + 1):
        book.add("key-a", "m", ONE, at)
    book.close()
    days = {row.day: row.requests for row in store.report("day", since="2026-11-01")}
    assert days == {"2026-11-22": 2, "2026-11-21": 1}


def test_reports_sum_by_what_is_asked_and_choose(store, tmp_path):
    one = Counts(1, 0, 0, 10, 0, 5, 1.0)
    counted = {
        Place("2026-11-20", "key-a", "m"): one,
        Place("2026-11-21", "key-a", "n"): one.plus(one),
        Place("2026-11-21", "key-b", "m"): one,
        Place("2026-11-21", "", "m"): Counts(1),
    }
    store.add(counted, {})
    store.add({Place("2026-11-21", "key-b", "m"): one}, {})

    def shown(by, **options):
        rows = store.report(by, since="2026-11-20", **options)
        return [(getattr(row, by), row.requests) for row in rows]

    assert shown("key") == [("key-a", 3), ("key-b", 2), ("", 1)]
    assert shown("model") == [("m", 4), ("n", 2)]
    assert shown("day") == [("2026-11-21", 5), ("2026-11-20", 1)]
    assert shown("day", before="2026-11-21") == [("2026-11-20", 1)]
    assert shown("key", limit=1) == [("key-a", 3)]
    assert shown("model", keys=["key-b"]) == [("m", 2)]
    assert shown("key", model="n") == [("key-a", 2)]
    assert shown("key", keys=[]) == []
    assert store.tokens_of_day("2026-11-21") == {"": 0, "key-a": 30, "key-b": 30}


def test_rows_of_keys_that_are_gone_keep_their_name(store, tmp_path):
    with KeyStore(clock, tmp_path) as keys:
        first = keys.create("ci", new_secret())
        keys.revoke("ci")
        second = keys.create("ci", new_secret())
        keys.revoke("ci")
        keys.forget(second.id)
    store.add({Place("2026-11-21", key.id, "m"): Counts(1) for key in (first, second)}, {})
    rows = store.report("key", since="2026-11-21")
    assert {row.key: row.name for row in rows} == {first.id: "ci", second.id: "ci"}
    assert set(store.ids("ci")) == {first.id, second.id}
    assert store.ids(second.id) == (second.id,)


def test_a_restart_reads_the_day_s_tokens_back(tmp_path, store):
    for _ in range(2):
        book = UsageBook(clock, tmp_path)
        book.add("key-a", "m", ONE, NOON)
        book.add("key-a", "n", ONE, NOON - DAY)
        book.close()
    assert store.tokens_of_day(day_of(NOON)) == {"key-a": 26}


def test_old_days_are_forgotten(tmp_path, store):
    days = [day_of(NOON - back * DAY) for back in (0, KEPT_DAYS - 1, KEPT_DAYS, KEPT_DAYS + 100)]
    store.add({Place(day, "", "m"): Counts(1) for day in days}, {})
    UsageBook(clock, tmp_path).close()
    assert [row.day for row in store.report("day", since="2000-01-01")] == days[:2]


def test_it_is_written_within_a_second_or_so_and_at_the_end(tmp_path, store):
    book = UsageBook(clock, tmp_path)
    book.add("key-a", "m", ONE, NOON)
    eventually(lambda: store.tokens_of_day("2026-11-21"))
    book.add("key-a", "m", ONE, NOON)
    book.close()
    assert store.tokens_of_day("2026-11-21") == {"key-a": 26}


def test_a_locked_database_holds_up_nobody_and_loses_nothing(tmp_path, store, monkeypatch):
    blocker = sqlite3.connect(tmp_path / "corral.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    book = UsageBook(clock, tmp_path, interval=0.01)
    began = time.perf_counter()
    for _ in range(1000):
        book.add("key-a", "m", ONE, NOON)
    assert time.perf_counter() - began < 1.0
    blocker.execute("COMMIT")
    blocker.close()
    book.close()
    assert store.tokens_of_day("2026-11-21") == {"key-a": 13_000}


def test_what_could_not_be_written_is_kept_and_said_once(tmp_path, capsys):
    folder = tmp_path / "home"
    folder.write_text("in the way")
    book = UsageBook(clock, folder, interval=0.01)
    book.add("key-a", "m", ONE, NOON)
    told = ""

    def said():
        nonlocal told
        told += capsys.readouterr().err
        return told

    eventually(said)
    book.add("key-a", "m", ONE, NOON)
    folder.unlink()
    book.close()
    assert (told + capsys.readouterr().err).count("kept for later") == 1
    with UsageStore(folder) as store:
        assert store.tokens_of_day("2026-11-21") == {"key-a": 26}


def test_when_keys_were_used_is_written_too(tmp_path):
    with KeyStore(clock, tmp_path) as keys:
        key = keys.create("alice", new_secret())
        UsageBook(clock, tmp_path, last_used=lambda: {key.id: 5000.0}).close()
        assert keys.get("alice").last_used == 5000.0


CHILD = """
import os, signal, sys, time
from pathlib import Path
from corral.store.usage import Counts, UsageStore
from corral.store.usagebook import UsageBook
folder = Path(sys.argv[1])
counts = Counts(1, prompt_tokens=1)
book = UsageBook(lambda: 0.0, folder)
for _ in range(5):
    book.add("key-a", "m", counts, 0.0)
with UsageStore(folder) as store:
    while not store.tokens_of_day("1970-01-01"):
        time.sleep(0.01)
for _ in range(3):
    book.add("key-a", "m", counts, 0.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_only_what_was_not_written_yet(tmp_path, store):
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert 5 <= store.tokens_of_day("1970-01-01")["key-a"] <= 8


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "a", "b"]), st.sampled_from(["m", "n"]), st.integers(0, 3), st.integers(0, 10**6)
        )
    )
)
def test_nothing_is_counted_twice_or_lost_between_flushes(tmp_path_factory, added):
    folder = tmp_path_factory.mktemp("usage")
    book = UsageBook(clock, folder, interval=0.0005)
    expected = Counter()
    for key, model, day, tokens in added:
        book.add(key, model, Counts(output_tokens=tokens), NOON + day * DAY)
        expected[day_of(NOON + day * DAY), key] += tokens
    book.close()
    with UsageStore(folder) as store:
        found = {
            (day, key): tokens
            for day in {day for day, _ in expected}
            for key, tokens in store.tokens_of_day(day).items()
        }
    assert found == dict(expected)


def test_no_thread_is_left(tmp_path):
    book = UsageBook(clock, tmp_path)
    book.close()
    assert "usage" not in {thread.name for thread in threading.enumerate()}
