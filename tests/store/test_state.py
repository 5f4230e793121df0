import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from corral.cluster.values import Cluster, Node
from corral.errors import CorralError, DoesNotFit
from corral.store.database import MIGRATIONS, StoreFailed, connect, home
from corral.store.events import EVENTS_KEPT
from corral.store.state import Store
from corral.store.values import LIVE, TRANSITIONS, DeploymentRequest, Progress, RankPlace


def wanted(name="demo", nodes=("here",)):
    return DeploymentRequest(name=name, cluster=Cluster(nodes=tuple(Node(name=n, address=n) for n in nodes)))


@pytest.fixture
def store(tmp_path):
    with Store(count(1000.0).__next__, tmp_path) as opened:
        yield opened


def test_what_was_asked_is_read_back_by_another_process(store, tmp_path):
    store.request(wanted())
    with Store(count().__next__, tmp_path) as other:
        known = other.get("demo")
    assert known is not None
    assert (known.request, known.state, known.desired) == (wanted(), "queued", "running")


def test_a_second_request_of_the_same_name_is_refused_until_the_first_has_ended(store):
    store.request(wanted())
    with pytest.raises(DoesNotFit, match="already queued"):
        store.request(wanted())
    store.want("demo", "stopped")
    store.move("demo", "stopped")
    store.request(wanted())
    assert store.get("demo").state == "queued"


def test_a_new_request_forgets_the_progress_of_the_last_one(store):
    store.request(wanted())
    store.progress("demo", Progress(stage="load", subject="", fraction=0.5, text="half"))
    store.move("demo", "failed")
    store.want("demo", "stopped")
    store.request(wanted())
    assert store.progress_of("demo") == ()


def test_progress_keeps_the_order_in_which_stages_began(store):
    for stage, fraction in (("nodes", 0.1), ("load", 0.0), ("nodes", 1.0)):
        store.progress("demo", Progress(stage=stage, subject="", fraction=fraction, text=""))
    assert [(step.stage, step.fraction) for step in store.progress_of("demo")] == [("nodes", 1.0), ("load", 0.0)]


@given(st.sampled_from(sorted(TRANSITIONS)), st.sampled_from(sorted(TRANSITIONS)))
def test_only_transitions_of_the_table_are_made(before, after):
    with TemporaryDirectory() as folder, Store(count().__next__, Path(folder)) as store:
        store.request(wanted())
        store._database.execute("UPDATE deployments SET state = ?", (before,))
        if before == after or after in TRANSITIONS[before]:
            assert store.move("demo", after).state == after
        else:
            with pytest.raises(ValueError, match="cannot go"):
                store.move("demo", after)
            assert store.get("demo").state == before


def test_every_live_state_can_come_to_an_end():
    def reachable(state, seen=frozenset()):
        return seen | {state}.union(*(reachable(n, seen | {state}) for n in TRANSITIONS[state] - seen - {state}))

    for state in LIVE:
        assert {"stopped", "failed"} <= reachable(state)


def test_an_end_that_left_something_behind_can_be_tried_again(store):
    store.request(wanted())
    store.move("demo", "stopping")
    store.move("demo", "failed", left=("far",))
    store.end("demo")
    assert store.get("demo").state == "stopping"


def test_old_events_fall_out(store):
    store._database.execute("INSERT INTO events (id, at, kind, text) VALUES (?, 0, 'old', '')", (1,))
    store._database.execute("INSERT INTO events (id, at, kind, text) VALUES (?, 0, 'newer', '')", (EVENTS_KEPT + 1,))
    store.tell(None, "newest", "")
    assert [event.kind for event in store.events()] == ["newer", "newest"]


def test_the_database_is_private(store, tmp_path):
    assert (tmp_path / "corral.db").stat().st_mode & 0o077 == 0


def test_a_database_of_a_newer_corral_is_refused_and_left_alone(tmp_path):
    connect(tmp_path).execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(CorralError, match="newer Corral"):
        connect(tmp_path)


def test_a_damaged_database_is_named(tmp_path):
    (tmp_path / "corral.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CorralError, match=r"corral\.db"):
        connect(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CorralError, match="cannot be used"):
        connect(tmp_path / "file" / "below")


def test_a_home_of_an_unknown_user_is_named(monkeypatch):
    monkeypatch.setenv("CORRAL_HOME", "~nosuchuser/corral")
    with pytest.raises(CorralError, match="nosuchuser"):
        home()


def test_no_deployment_has_the_head_s_log_as_its_folder(store):
    assert store.logs("head.log").name != "head.log"


def test_two_processes_that_open_a_new_database_at_once_both_succeed(tmp_path):
    code = f"from corral.store.database import connect; from pathlib import Path; connect(Path({str(tmp_path)!r}))"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in both] == [0, 0, 0, 0]


def test_a_killed_writer_loses_no_accepted_request(tmp_path):
    code = (
        "import os, time; from pathlib import Path; from corral.store.state import Store;"
        "from corral.store.values import DeploymentRequest; from corral.cluster.values import Cluster, Node;"
        f"s = Store(time.time, Path({str(tmp_path)!r}));"
        "s.request(DeploymentRequest(name='kept', cluster=Cluster(nodes=(Node(name='a'),)))); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with Store(count().__next__, tmp_path) as store:
        assert [deployment.name for deployment in store.live()] == ["kept"]


def test_what_was_left_on_a_node_that_the_new_cluster_lacks_is_not_forgotten(store):
    far = Cluster(nodes=(Node(name="far", address="10.0.0.9"),))
    store.request(wanted().model_copy(update={"cluster": far}))
    store.move("demo", "stopping")
    store.move("demo", "failed", left=("far",))
    store.want("demo", "stopped")
    with pytest.raises(DoesNotFit, match="left on far"):
        store.request(wanted())
    store.request(wanted().model_copy(update={"cluster": far}))


def test_a_row_of_another_version_is_read_as_far_as_it_is_known(store):
    store.request(wanted())
    store._database.execute("""UPDATE deployments SET request = json_set(request, '$.of_tomorrow', 1),
                               detail = json_set(detail, '$.of_tomorrow', 1)""")
    assert store.live()[0].request == wanted()


def test_a_row_that_makes_no_sense_is_named(store):
    store.request(wanted())
    store._database.execute("UPDATE deployments SET request = json_set(request, '$.concurrency', 'many')")
    with pytest.raises(CorralError, match="deployment demo cannot be read"):
        store.deployments()


@pytest.mark.parametrize("name", ["a/../../../etc", "team/model:v1", "plain"])
def test_logs_of_any_name_are_one_folder_below_the_others(store, name):
    folder = store.logs(name)
    assert folder.parent.resolve() == (store.folder / "logs").resolve()
    assert folder.resolve() == folder.parent.resolve() / folder.name


def rank(node):
    return RankPlace(name=f"rank-{node}", node=node, run=f"/run/{node}", scratch=f"/tmp/{node}")


def test_what_could_not_be_ended_is_known_to_the_next_launch_on_that_node(store):
    store.request(wanted(nodes=("near", "far")))
    store.move("demo", "launching", identity="demo-1", ranks=(rank("near"), rank("far")))
    store.move("demo", "failed", left=("far",))
    store.want("demo", "stopped")
    store.request(wanted(nodes=("near", "far")))
    begun = store.get("demo").detail
    assert (begun.identity, begun.ranks, begun.left) == ("demo-1", (rank("far"),), ())


def test_a_failure_is_missed_until_it_is_ended_and_may_be_asked_for_again(store):
    store.request(wanted())
    store.move("demo", "failed")
    assert [deployment.name for deployment in store.live()] == ["demo"]
    store.end("demo")
    assert (store.get("demo").state, store.live()) == ("stopped", ())


def test_a_full_disk_is_a_sentence(tmp_path):
    with Store(count().__next__, tmp_path) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFailed, match=r"corral\.db cannot be used: database or disk is full"):
            store.tell(None, "much", "x" * 1_000_000)


class Wishes(RuleBasedStateMachine):
    """People and heads write as they like: what lives is never replaced, what was left is never forgotten."""

    names = st.sampled_from(["one", "two"])

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = Store(count().__next__, Path(self.folder.name))
        self.left = {}

    @rule(name=names)
    def request(self, name):
        before = self.store.get(name)
        try:
            self.store.request(wanted(name))
        except DoesNotFit:
            assert before.state in LIVE
            assert self.store.get(name) == before
        else:
            assert before is None or before.state not in LIVE
            after = self.store.get(name)
            assert (after.state, after.desired) == ("queued", "running")
            assert {place.node for place in after.detail.ranks} == self.left.pop(name, set())

    @rule(name=names)
    def end(self, name):
        self.store.end(name)
        after = self.store.get(name)
        assert after is None or after.desired == "stopped"
        assert after is None or after.state != "failed"

    @rule(name=names, state=st.sampled_from(sorted(TRANSITIONS)), stays=st.booleans())
    def move(self, name, state, stays):
        before = self.store.get(name)
        if before is None or state == "queued" or state not in TRANSITIONS[before.state]:
            return
        left = ("here",) if state == "failed" and stays else ()
        self.store.move(name, state, ranks=(rank("here"),), left=left)
        self.left[name] = set(left) or (self.left.get(name, set()) if state == "stopping" else set())

    @invariant()
    def what_lives_or_is_wanted_is_seen_to(self):
        live = {deployment.name for deployment in self.store.live()}
        for deployment in self.store.deployments():
            assert (deployment.name in live) == (deployment.state in LIVE or deployment.desired == "running")

    def teardown(self):
        self.store.close()
        self.folder.cleanup()


TestWishes = Wishes.TestCase
TestWishes.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


def test_replicas_are_asked_for_all_or_none(store):
    store.request(wanted("demo~2"))
    with pytest.raises(DoesNotFit):
        store.request(*wanted().replicas(2))
    assert store.get("demo") is None
    store.want("demo~2", "stopped")
    store.move("demo~2", "stopped")
    store.request(*wanted().replicas(2))
    assert [(d.name, d.serves) for d in store.deployments()] == [("demo", "demo"), ("demo~2", "demo")]


def test_how_long_a_load_took_is_remembered_for_the_same_model_only(store):
    store.request(wanted())
    store.move("demo", "launching")
    store.move("demo", "ready", load_seconds=7.5)
    store.move("demo", "stopping")
    store.move("demo", "stopped")
    store.request(wanted())
    assert store.get("demo").detail.load_seconds == 7.5
    store.move("demo", "stopped")
    store.request(wanted().model_copy(update={"context": 99}))
    assert store.get("demo").detail.load_seconds is None
