"""`corral` as a person runs it: the program, in a process of its own, with a folder of state of its own."""

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("corral")


class Corral:
    """Runs commands with one $CORRAL_HOME; whatever they leave running is ended. `env` is theirs in addition."""

    program = PROGRAM

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        # The Hub is out of reach, so that "no model" means the demo model.
        self.env = os.environ | {"CORRAL_HOME": str(home), "HF_ENDPOINT": "http://127.0.0.1:9", "COLUMNS": "200"}
        self.env |= env

    def __call__(self, *arguments, timeout=120.0, status=0, **env):
        """Run a command to its end and check its exit status; gives the finished process."""
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == status, f"status {done.returncode}: {done.stderr}\n{self.head_log()}"
        return done

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)

    def popen(self, *arguments, **options):
        """Start a command in the foreground, as from a terminal of its own."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options = {"start_new_session": True} | streams | options
        return subprocess.Popen([PROGRAM, *map(str, arguments)], env=self.env, text=True, **options)

    def refused(self, *arguments, status=2, **env):
        """Run a command that must be refused with one sentence of cause and one of remedy; gives both."""
        told = self(*arguments, status=status, **env).stderr
        said = re.search(r"^error: (?P<cause>\S.*)\n  try: (?P<remedy>\S.*)\Z", told.rstrip("\n"), re.MULTILINE)
        assert said, told
        assert "defect" not in told, told
        return said["cause"], said["remedy"]

    def deployment(self, name="default"):
        """One deployment as `corral status` tells it, whatever its exit status."""
        told = subprocess.run([PROGRAM, "status", "--json"], env=self.env, capture_output=True, text=True, check=False)
        return next((d for d in json.loads(told.stdout)["deployments"] if d["name"] == name), None)

    def wait_for(self, condition, what, seconds=150.0):
        """Wait until the condition holds; gives what it gave."""
        deadline = time.monotonic() + seconds
        while not (held := condition()):
            assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s; {self.head_log()}"
            time.sleep(0.05)
        return held

    def head_log(self):
        path = self.home / "logs" / "head.log"
        return path.read_text()[-4000:] if path.exists() else "no head was started"

    def head_pid(self):
        text = (self.home / "head.lock").read_text()
        return json.loads(text)["pid"] if text else None

    def head_rss(self):
        """Bytes that the head holds in memory."""
        status = Path(f"/proc/{self.head_pid()}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def head_ended(self):
        lock = self.home / "head.lock"
        return not lock.exists() or not lock.read_text()

    def ranks(self, node=None):
        """Pids of live rank processes of this state folder's deployments, by what marks them."""
        identities = {d["identity"] for d in self.all_deployments() if d["identity"]}
        return [pid for identity in identities for pid in marked(f"CORRAL_DEPLOYMENT={identity}")]

    def mains(self):
        """Pids of the ranks themselves, without the shells that keep them."""
        return [pid for pid in self.ranks() if Path(f"/proc/{pid}/comm").read_text().strip() != "sh"]

    def all_deployments(self):
        return [json.loads(detail) for (detail,) in self.ask("SELECT detail FROM deployments")]

    def ask(self, question, *values):
        """Rows of the database, none while there is none."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.home}/corral.db?mode=ro", uri=True)) as database:
                return database.execute(question, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def state(self, name="default"):
        return next((state for (state,) in self.ask("SELECT state FROM deployments WHERE name = ?", name)), None)

    def began(self, stage, name="default"):
        """Whether a launch has come to a stage; a state is a stage too, and every launch was queued at first."""
        if stage == "queued":
            return self.state(name) is not None
        steps = self.ask("SELECT stage FROM progress WHERE deployment = ? UNION VALUES (?)", name, self.state(name))
        return (stage,) in steps

    def left(self):
        """What is there of processes and of records of ranks; nothing once all has ended."""
        here = f"CORRAL_HOME={self.home}"
        scratches = {rank["scratch"] for detail in self.all_deployments() for rank in detail["ranks"]}
        runs = {rank["run"] for detail in self.all_deployments() for rank in detail["ranks"]}
        return {
            "processes": [words for pid in {*marked(here), *self.ranks()} if (words := command(pid))],
            "folders": [path for path in scratches | runs if os.path.exists(path)],
        }

    def nothing_is_left(self):
        """At once, but for what the kernel takes to bury the dead on a busy machine."""
        deadline = time.monotonic() + 3.0
        while any(self.left().values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.left() == {"processes": [], "folders": []}, self.head_log()

    def end(self):
        """End everything that the test left."""
        if (self.home / "corral.db").exists():
            subprocess.run([PROGRAM, "down"], env=self.env, capture_output=True, timeout=120, check=False)
            for pid in self.ranks():
                os.kill(pid, signal.SIGKILL)


def command(pid):
    """The words of a process; none once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def marked(mark):
    """Pids whose environment holds the word."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(int(pid))
    return found


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def base_url(told):
    """The endpoint that `up` printed."""
    return re.search(r"http://\S+/v1", told.stdout)[0]


def post(url, body, timeout=30):
    """Status and JSON of an answer, whatever the status is."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def embedding_gguf(chat, target):
    """Write a small GGUF model as one that embeds: two more entries in its header, as long as its alignment."""
    whole = chat.read_bytes()
    tensors, entries = struct.unpack("<QQ", whole[8:24])
    more = _entry("llama.pooling_type", 4, struct.pack("<I", 1))
    room = len(_entry("test.padding", 8, struct.pack("<Q", 0)))
    padding = b" " * (-(len(more) + room) % 32)
    more += _entry("test.padding", 8, struct.pack("<Q", len(padding)) + padding)
    target.write_bytes(whole[:8] + struct.pack("<QQ", tensors, entries + 2) + more + whole[24:])
    return target


def _entry(key, kind, value):
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value
