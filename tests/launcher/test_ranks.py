"""The scripts that run on a node, run here as a node would run them."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.resources import files

import pytest

pytestmark = pytest.mark.slow
RANKS = str(files("corral.launcher.onnode") / "ranks.py")
SITE = str(files("corral.launcher.onnode") / "site.py")


class NodeScripts:
    """Asks `ranks.py` as the head does; ends whatever a test leaves behind."""

    def __init__(self, folder, identity):
        self.run, self.scratch = str(folder / "cache" / "run" / identity), str(folder / "scratch")
        self.marks = {"CORRAL_DEPLOYMENT": identity, "CORRAL_NODE": "here"}

    def ask(self, verb, **request):
        done = subprocess.run(
            [sys.executable, RANKS, verb],
            input=json.dumps(request).encode() + b"\n",
            stdout=subprocess.PIPE,
            check=True,
        )
        return json.loads(done.stdout)

    def start(self, *argv, rank="server", env=None, texts=None):
        marks = self.marks | {"CORRAL_RANK": rank}
        where = {"run": self.run, "scratch": self.scratch, "rank": rank}
        return self.ask("start", **where, argv=argv, env=(env or {}) | marks, files=texts or {})

    def stop(self, grace=2.0):
        return self.ask("stop", run=self.run, scratch=self.scratch, marks=self.marks, grace=grace)

    @contextmanager
    def watch(self, **request):
        watching = subprocess.Popen([sys.executable, RANKS, "watch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        request = {"run": self.run, "marks": self.marks, "interval": 0.05} | request
        watching.stdin.write(json.dumps(request).encode() + b"\n")
        watching.stdin.flush()
        try:
            yield (json.loads(line) for line in watching.stdout)
        finally:
            watching.stdin.close()
            assert watching.wait(5) == 0, "a watch ends when its connection does"
            watching.stdout.close()

    def alive(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if f"CORRAL_DEPLOYMENT={self.marks['CORRAL_DEPLOYMENT']}".encode() in file.read().split(b"\0"):
                        found.append(int(pid))
            except OSError:
                continue
        return found


@pytest.fixture
def node(tmp_path):
    scripts = NodeScripts(tmp_path, f"test-{os.getpid()}-{time.monotonic_ns()}")
    yield scripts
    scripts.stop(grace=0.1)


def first(news, key):
    return next(item for item in news if key in item)


def test_a_rank_outlives_the_script_and_its_log_and_status_are_told(node):
    node.start("sh", "-c", "echo hello; echo wörld >&2; exit 7")
    with node.watch() as news:
        text = ""
        for item in news:
            text += item.get("text", "")
            if "exit" in item:
                break
    assert text == "hello\nwörld\n"
    assert (item["exit"], item["status"]) == ("server", 7)


def test_a_character_that_arrives_in_parts_is_told_whole(node):
    node.start("sh", "-c", r"printf 'w\303'; sleep 0.3; printf '\266rld\n'; printf 'cut \303'")
    with node.watch() as news:
        text = ""
        for item in news:
            text += item.get("text", "")
            if "exit" in item:
                break
    assert text == "wörld\ncut \N{REPLACEMENT CHARACTER}"


def test_a_watch_that_is_made_again_goes_on_where_the_last_one_stopped(node):
    node.start("sh", "-c", "echo one; sleep 60")
    with node.watch() as news:
        offset = first(news, "log")["offset"]
    with open(f"{node.run}/server.log", "a") as log:
        log.write("two\n")
    with node.watch(offsets={"server": offset}) as news:
        assert first(news, "log")["text"] == "two\n"


def test_a_port_that_opens_is_told(node):
    free = subprocess.run(
        [sys.executable, SITE, "ports"],
        input=b'{"address": "127.0.0.1", "wants": ["api"]}\n',
        capture_output=True,
        check=True,
    )
    port = json.loads(free.stdout)["api"]
    node.start(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port))
    with node.watch(ports={"server": ["127.0.0.1", port]}) as news:
        assert first(news, "ready") == {"ready": "server"}


def test_resources_are_summed_over_a_rank_s_processes(node):
    node.start(
        sys.executable,
        "-c",
        "import time; b = bytearray(50_000_000); b[::4096] = b'x' * len(b[::4096]); time.sleep(60)",
    )
    with node.watch() as news:
        beat = next(i["beat"]["server"] for i in news if i.get("beat", {}).get("server", {}).get("rss", 0) > 50_000_000)
    assert beat["processes"] == 2


def test_the_environment_is_the_given_one_with_little_of_the_node_s_own(node, monkeypatch):
    monkeypatch.setenv("NOT_FOR_ENGINES", "1")
    node.start("sh", "-c", "env; pwd", env={"SECRET": "a 'b' \"c\" $d"})
    with node.watch() as news:
        text = first(news, "log")["text"]
    assert "SECRET=a 'b' \"c\" $d\n" in text
    assert "NOT_FOR_ENGINES" not in text
    assert text.endswith(f"{node.scratch}\n")


def test_files_of_a_rank_are_written_before_it_starts(node):
    node.start("cat", "below/script.py", texts={"below/script.py": "print(1)\n"})
    with node.watch() as news:
        assert first(news, "log")["text"] == "print(1)\n"


def test_stop_ends_children_in_sessions_of_their_own_and_leaves_nothing(node):
    node.start("sh", "-c", "setsid sleep 300 & setsid setsid sleep 301 & wait")
    deadline = time.monotonic() + 5
    while len(node.alive()) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(node.alive()) == 4
    told = node.stop()
    assert (told["ended"], told["left"]) == (4, [])
    assert node.alive() == []
    assert not os.path.exists(node.run)
    assert not os.path.exists(node.scratch)


def test_stop_kills_what_ignores_the_polite_signal(node):
    node.start("sh", "-c", 'trap "" TERM; while :; do sleep 0.1; done')
    deadline = time.monotonic() + 5
    while len(node.alive()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert node.stop(grace=0.3)["killed"] >= 1
    assert node.alive() == []


def test_a_rank_that_ends_by_itself_when_asked_is_not_killed(node):
    polite = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('up', flush=True); time.sleep(60)"
    )
    node.start(sys.executable, "-c", polite)
    with node.watch() as news:
        first(news, "log")
    assert node.stop()["killed"] == 0


def test_stop_leaves_other_deployments_and_other_nodes_alone(node, tmp_path):
    other = NodeScripts(tmp_path / "other", node.marks["CORRAL_DEPLOYMENT"])
    other.marks = node.marks | {"CORRAL_NODE": "elsewhere"}
    other.start("sleep", "300")
    node.start("sleep", "300")
    try:
        assert node.stop()["ended"] == 2
        assert len(other.alive()) == 2
    finally:
        assert other.stop()["ended"] == 2


def test_a_rank_that_is_killed_with_its_keeper_is_told_as_ended(node):
    node.start("sleep", "300")
    with node.watch() as news:
        first(news, "beat")
        for pid in node.alive():
            os.kill(pid, signal.SIGKILL)
        assert first(news, "exit") == {"exit": "server", "status": 137}


def test_shared_memory_of_a_killed_rank_is_removed(node):
    name = f"/dev/shm/corral-test-{os.getpid()}"
    code = f"import mmap, time; f = open({name!r}, 'wb+'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); print('up', flush=True); time.sleep(60)"  # noqa: E501
    node.start(sys.executable, "-c", code)
    with node.watch() as news:
        first(news, "log")
    assert os.path.exists(name)
    node.stop(grace=0.1)
    assert not os.path.exists(name)


def test_shared_memory_of_a_rank_that_was_gone_before_the_stop_is_removed(node):
    name = f"/dev/shm/corral-test-gone-{os.getpid()}"
    code = f"import mmap, time; f = open({name!r}, 'wb+'); f.truncate(4096); m = mmap.mmap(f.fileno(), 4096); print('up', flush=True); time.sleep(60)"  # noqa: E501
    node.start(sys.executable, "-c", code)
    with node.watch() as news:
        first(news, "log")
    with node.watch() as news:  # its first beat comes after the file
        first(news, "beat")
        os.kill(max(node.alive()), signal.SIGKILL)
        first(news, "exit")
    assert os.path.exists(name)
    node.stop(grace=0.1)
    assert not os.path.exists(name)


def test_shared_memory_that_somebody_made_anew_under_a_remembered_name_is_kept(node):
    name = f"/dev/shm/corral-test-anew-{os.getpid()}"
    code = f"f = open({name!r}, 'w'); f.write('x'); f.flush(); print('up', flush=True); import time; time.sleep(60)"
    node.start(sys.executable, "-c", code)
    with node.watch() as news:
        first(news, "log")
    with node.watch() as news:
        first(news, "beat")
        os.kill(max(node.alive()), signal.SIGKILL)
        first(news, "exit")
    with open(f"{name}.other", "w") as other:
        other.write("another")
    os.rename(f"{name}.other", name)
    try:
        node.stop(grace=0.1)
        assert os.path.exists(name)
    finally:
        os.unlink(name)


def test_stopping_twice_is_no_error(node):
    node.start("sleep", "300")
    node.stop()
    assert node.stop() == {"ended": 0, "killed": 0, "left": []}


def test_a_program_that_does_not_exist_is_an_exit_of_127_with_its_name_in_the_log(node):
    node.start("/no/such/engine")
    with node.watch() as news:
        log, exit_ = first(news, "log"), first(news, "exit")
    assert "/no/such/engine" in log["text"]
    assert exit_["status"] == 127


def test_ports_are_distinct_and_blocks_hold_together():
    request = {"address": "127.0.0.1", "wants": ["a", "b", "block:50:workers", "c"]}
    done = subprocess.run(
        [sys.executable, SITE, "ports"], input=json.dumps(request).encode() + b"\n", capture_output=True, check=True
    )
    told = json.loads(done.stdout)
    block = range(told["workers"], told["workers"] + 50)
    assert len({told["a"], told["b"], told["c"]} - set(block)) == 3


def test_a_node_describes_itself(tmp_path):
    request = json.dumps({"address": "127.0.0.1", "cache": str(tmp_path / "not" / "yet")}).encode() + b"\n"
    done = subprocess.run([sys.executable, SITE, "describe"], input=request, capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert told["interface"] == "lo"
    assert told["cores"] == len(os.sched_getaffinity(0))
    assert 0 < told["memory_available"] <= told["memory_total"]
    assert told["disk_free"] > 0


def test_files_are_present_when_their_size_is_right(tmp_path):
    (tmp_path / "whole").write_bytes(b"12345")
    (tmp_path / "short").write_bytes(b"123")
    request = {"folder": str(tmp_path), "files": [["whole", 5], ["short", 5], ["missing", 5]]}
    done = subprocess.run(
        [sys.executable, SITE, "files"], input=json.dumps(request).encode() + b"\n", capture_output=True, check=True
    )
    assert list(json.loads(done.stdout)["present"]) == ["whole"]
