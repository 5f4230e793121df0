"""Starts, watches and stops the ranks of a deployment on the node it runs on; knows no engine and no other node.

Sent to a node over the seam and fed a JSON request on standard input; answers in JSON lines. Verbs:

start   {"run", "scratch", "rank", "argv", "env", "files"} -> {"pid", "started"}
watch   {"run", "marks", "offsets", "ports": {rank: [address, port]}, "interval"}
        -> a stream of lines until standard input closes:
            {"log": rank, "offset": bytes read so far, "text"}, {"exit": rank, "status": N}, {"ready": rank},
            {"beat": {rank: {"rss": bytes, "cpu": seconds, "processes": N}}}
stop    {"run", "scratch", "marks", "grace"} -> {"ended": N, "killed": N, "left": [pid]}

Every process of a rank carries the marks CORRAL_DEPLOYMENT, CORRAL_NODE and CORRAL_RANK in its environment; children
inherit them, so that workers in process groups of their own are found too, and nothing else is ever touched. A rank is
kept by a shell that outlives this script, the connection and Corral, and writes down the exit status.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Marks = dict[str, str]
BASE_ENV = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
# Runs the rank in the background so that a signal to the keeper does not hide the rank's exit status.
KEEPER = """
trap : TERM HUP INT
"$@" &
child=$!
echo $child >"$CORRAL_RUN/$CORRAL_RANK.child"
wait $child; status=$?
while kill -0 $child 2>/dev/null; do wait $child; status=$?; done
echo $status >"$CORRAL_RUN/$CORRAL_RANK.exit.part"
mv "$CORRAL_RUN/$CORRAL_RANK.exit.part" "$CORRAL_RUN/$CORRAL_RANK.exit"
"""
BEAT_SECONDS = 3.0
SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - looked into, not written
SHARED_LIST = "shared-memory"
LOG_CHUNK = 64 * 1024


def emit(message: Json) -> None:
    """Write one JSON line to standard output."""
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def private_folder(path: str) -> None:
    """Make a folder that only this user can enter; refuse one that somebody else put there."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    if os.lstat(path).st_uid != os.getuid() or os.path.islink(path):
        sys.exit(f"{path} belongs to somebody else")


def start(request: Json) -> None:
    """Start one rank under its keeper and return at once."""
    run, rank = request["run"], request["rank"]
    private_folder(run)
    private_folder(request["scratch"])
    for name, text in request.get("files", {}).items():
        target = Path(request["scratch"], name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for leftover in ("exit", "child"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(run, f"{rank}.{leftover}"))
    env = {name: os.environ[name] for name in BASE_ENV if name in os.environ}
    env.update(request["env"], CORRAL_RUN=run)
    with open(os.path.join(run, f"{rank}.log"), "wb") as log:
        keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "corral-keeper", *request["argv"]],
            env=env,
            cwd=request["scratch"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    emit({"pid": keeper.pid, "started": time.time()})


def marked(marks: Marks) -> dict[int, str]:
    """Map pid to rank for every live process that carries the marks."""
    wanted = [f"{name}={value}" for name, value in marks.items()]
    found: dict[int, str] = {}
    for pid, environment in environments():
        words = set(environment)
        if all(mark in words for mark in wanted):
            rank = next((word[12:] for word in environment if word.startswith("CORRAL_RANK=")), "")
            found[pid] = rank
    return found


def environments() -> Iterator[tuple[int, list[str]]]:
    """Yield (pid, words of its initial environment) of every process that may be looked into."""
    if os.path.isdir("/proc/self"):
        for entry in os.listdir("/proc"):
            if entry.isdigit() and not zombie(int(entry)):
                with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                    yield int(entry), file.read().decode(errors="replace").split("\0")
        return
    listing = subprocess.run(["ps", "-axEww", "-o", "pid=,command="], stdout=subprocess.PIPE, check=False).stdout
    for line in listing.decode(errors="replace").splitlines():
        pid, _, words = line.strip().partition(" ")
        if pid.isdigit():
            yield int(pid), words.split(" ")


def zombie(pid: int) -> bool:
    """Whether the process has ended and only waits for its parent."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in {b"Z", b"X"}
    except (OSError, IndexError):
        return True


def usage(processes: dict[int, str]) -> dict[str, dict[str, float]]:
    """Sum resident bytes and CPU seconds over each rank's processes (pid to rank)."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    beat: dict[str, dict[str, float]] = {}
    for pid, rank in processes.items():
        rss = cpu = 0
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / tick
            rss = int(fields[21]) * page
        # Shared pages are counted once where the kernel tells them apart: tensor-parallel workers share model files.
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            rss = next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        entry = beat.setdefault(rank, {"rss": 0, "cpu": 0.0, "processes": 0})
        entry["rss"] += rss
        entry["cpu"] = round(entry["cpu"] + cpu, 2)
        entry["processes"] += 1
    return beat


class Watch:
    """What was already told of the ranks of one run folder, so that only news is sent."""

    def __init__(self, request: Json) -> None:
        self.run: str = request["run"]
        self.marks: Marks = request["marks"]
        self.offsets: dict[str, int] = dict(request.get("offsets", {}))
        self.ports: dict[str, tuple[str, int]] = dict(request.get("ports", {}))
        self.gone: set[str] = set()
        self.missed: set[str] = set()

    def step(self) -> None:
        """Tell what is new in the logs, which ranks ended, and which became ready."""
        for name in sorted(os.listdir(self.run) if os.path.isdir(self.run) else ()):
            rank, _, suffix = name.rpartition(".")
            if suffix == "log":
                self.read_log(rank)
        for name in sorted(os.listdir(self.run) if os.path.isdir(self.run) else ()):
            rank, _, suffix = name.rpartition(".")
            if suffix == "exit" and rank not in self.gone:
                self.read_log(rank, ended=True)
                self.gone.add(rank)
                text = Path(self.run, name).read_text().strip()
                emit({"exit": rank, "status": int(text or 0)})
        for rank, (address, port) in list(self.ports.items()):
            if accepts(address, port):
                del self.ports[rank]
                emit({"ready": rank})

    def beat(self) -> None:
        """Tell what each rank uses. One that has neither processes nor an exit status was killed with its keeper."""
        processes = marked(self.marks)
        used = usage(processes)
        emit({"beat": used})
        remember_shared(self.run, processes)
        names = [name.rpartition(".") for name in os.listdir(self.run)] if os.path.isdir(self.run) else []
        ended = {rank for rank, _, suffix in names if suffix == "exit"}
        missing = {rank for rank, _, suffix in names if suffix == "log"} - ended - self.gone - set(used)
        for rank in missing & self.missed:  # twice: not only between its log and its first process
            self.gone.add(rank)
            emit({"exit": rank, "status": 128 + signal.SIGKILL})
        self.missed = missing

    def read_log(self, rank: str, *, ended: bool = False) -> None:
        """Send what was written since the last look, in chunks that end at a character."""
        with contextlib.suppress(OSError), open(os.path.join(self.run, f"{rank}.log"), "rb") as log:
            while True:
                offset = self.offsets.get(rank, 0)
                log.seek(offset)
                data = log.read(LOG_CHUNK)
                text, used = codecs.utf_8_decode(data, "replace", ended and len(data) < LOG_CHUNK)
                if not used:
                    return
                self.offsets[rank] = offset + used
                emit({"log": rank, "offset": self.offsets[rank], "text": text})


def accepts(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def watch(request: Json) -> None:
    """Send news until standard input closes; a beat of their resources every few seconds."""
    news, interval, beat_at = Watch(request), request.get("interval", 0.1), 0.0
    while True:
        news.step()
        if time.monotonic() >= beat_at:
            news.beat()
            beat_at = time.monotonic() + BEAT_SECONDS
        if select.select([0], [], [], interval)[0] and not os.read(0, 65536):
            return


def signal_all(pids: Iterable[int], number: int) -> None:
    """Send a signal to every process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def wait_gone(look: Callable[[], set[int]], seconds: float) -> set[int]:
    """Look until nothing is left or the time is over; return what is left."""
    deadline = time.monotonic() + seconds
    while True:
        left = look()
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.05)


def shared_memory(pids: Iterable[int]) -> set[str]:
    """Name the files in /dev/shm that the processes hold open or mapped."""
    held: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", errors="replace") as maps:
            held.update(line.split(None, 5)[5].strip() for line in maps if f" {SHARED_MEMORY}" in line)
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    held.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {path for path in held if path.startswith(SHARED_MEMORY) and not path.endswith(" (deleted)")}


def remember_shared(run: str, pids: Iterable[int]) -> None:
    """Write down which shared memory the processes hold: one that is killed later cannot be asked any more.

    The ranks of a gang take each other down, so that a node's may be gone before anybody comes to stop them.
    """
    known = remembered_shared(run)
    news = {path: inode for path in shared_memory(pids) if (inode := inode_of(path)) and known.get(path) != inode}
    if news and os.path.isdir(run):
        with open(os.path.join(run, SHARED_LIST), "a") as file:
            file.writelines(f"{inode} {path}\n" for path, inode in news.items())


def remembered_shared(run: str) -> dict[str, int]:
    """Map path to inode of the shared memory that ranks of this run were seen to hold."""
    with contextlib.suppress(OSError), open(os.path.join(run, SHARED_LIST), errors="replace") as file:
        pairs = [line.rstrip("\n").partition(" ") for line in file]
        return {path: int(inode) for inode, _, path in pairs if inode.isdigit()}
    return {}


def inode_of(path: str) -> int:
    """Give a file's inode, by which it is known from another of the same name; 0 when it is not there."""
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


def stop(request: Json) -> None:
    """End every marked process, politely first (the ranks' own, then all), then by force; remove what they left."""
    run, marks = request["run"], request["marks"]
    every = set(marked(marks))
    shared = {path for path, inode in remembered_shared(run).items() if inode_of(path) == inode}
    shared |= shared_memory(every)
    mains = main_processes(run, every)
    signal_all(mains, signal.SIGTERM)
    wait_gone(lambda: set(mains) & set(marked(marks)), request.get("grace", 10.0))
    left = wait_gone(lambda: set(marked(marks)), 0.5)
    shared |= shared_memory(left)
    signal_all(left, signal.SIGTERM)
    left = wait_gone(lambda: set(marked(marks)), 2.0)
    killed = len(left)
    for _ in range(20):  # a process may fork between the look and the signal
        if not left:
            break
        signal_all(left, signal.SIGKILL)
        left = wait_gone(lambda: set(marked(marks)), 0.5)
    for path in shared - shared_memory(pid for pid, _ in environments()):
        with contextlib.suppress(OSError):
            os.unlink(path)
    for folder in (run, request["scratch"]):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(run))
    emit({"ended": len(every), "killed": killed, "left": sorted(left)})


def main_processes(run: str, known: set[int]) -> list[int]:
    """Name the first process of each rank, as its keeper wrote it down."""
    pids: list[int] = []
    for path in Path(run).glob("*.child"):
        with contextlib.suppress(OSError, ValueError):
            pids.append(int(path.read_text()))
    return [pid for pid in pids if pid in known]


if __name__ == "__main__":
    {"start": start, "watch": watch, "stop": stop}[sys.argv[1]](json.loads(sys.stdin.buffer.readline()))
