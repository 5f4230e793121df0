"""What the scripts that build on a node share: answers, child programs, the lock, the end; knows not what is built.

Standard library only (Python 3.8 or newer). A script imports it; whoever sends the script to a node sends
this along. One JSON request is read from the first line of standard input, JSON lines are written to
standard output: any number of `{"progress": 0..1, "text": ...}`, then one `{"done": {...}}` or
`{"error": {"cause": ..., "remedy": ...}}` (exit status 1). Standard input stays open while a script works: when it
closes, or on SIGTERM, everything that was started is ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

LATE_SECONDS = 5.0  # how long ended children may take before they are killed
BEAT_SECONDS = 2.0  # how often the holder of a lock without flock shows that it lives
STALE_SECONDS = 30.0  # a lock without flock whose holder was silent for so long is taken over
NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})  # on some network file systems
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

# What failed steps say of themselves: pattern in the output, cause, remedy. The first that matches is told.
Failures = Sequence["tuple[str, str, str]"]


class BuildError(Exception):
    """A failure that a person can act on: one sentence of cause, one of remedy."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy


class Stopped(BaseException):
    """Asked to end: standard input closed, or a signal came."""


# -- answers


class Teller:
    """Writes the answer's lines; a failed write means that nobody listens, and ends the work."""

    def __init__(self) -> None:
        self.copy: Path | None = None  # whoever waits for the same build reads the progress here
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


_TELLING = threading.Lock()


def tell(line: Mapping[str, Any]) -> None:
    """Write one JSON line, whole even when another thread tells something at the same time."""
    try:
        with _TELLING:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    except OSError:
        raise Stopped from None


# -- children


class Shell:
    """Runs the steps' programs, each in a process group of its own, and ends what still runs when it is left.

    `words` fill the sentences of `failures`; `env` is the programs' environment.
    """

    def __init__(self, log: Path, failures: Failures, words: Mapping[str, str], env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._log = log
        self._failures = failures
        self._words = words
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Shell:  # noqa: PYI034 - Self is newer than the Python of some nodes
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._child is not None and self._child.poll() is None:
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(self._child.pid, number)
                    self._child.wait(LATE_SECONDS)

    def lines(self, what: str, argv: Sequence[str], cwd: Path | None = None) -> Iterator[str]:
        """Run a program and yield its output line by line; BuildError when it fails, named after `what`."""
        with self._log.open("a", errors="replace") as log:
            log.write("$ " + " ".join(argv) + "\n")
            log.flush()
            self._child = child = subprocess.Popen(
                argv,
                cwd=cwd,
                env=self.env,
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
            raise self._failed(what, child.returncode)

    def run(self, what: str, argv: Sequence[str], cwd: Path | None = None) -> str:
        """Run a program to its end and give its output; BuildError when it fails."""
        return "".join(self.lines(what, argv, cwd))

    def _failed(self, what: str, status: int) -> BuildError:
        """Find the cause of a failed step in the log."""
        text = self._log.read_text(errors="replace")
        # The last step's own output only: an earlier one may have warned of something harmless.
        text = text[text.rfind("\n$ ") + 1 :]
        if status == -signal.SIGKILL:
            text += "\nKilled\n"
        for pattern, cause, remedy in self._failures:
            match = re.search(pattern, text, re.MULTILINE)
            if match:
                known = {**self._words, **match.groupdict()}
                return BuildError(cause.format_map(known), remedy.format_map(known))
        # A compiler's first error counts, and the line below it; of a Python program's, the last.
        told = re.search(r"^.*(?:error:|CMake Error).*(?:\n.+)?", text, re.MULTILINE)
        errors = re.findall(r"^.*(?:ERROR|Error:|Exception).*$", text, re.MULTILINE) or [text.strip()]
        line = " ".join((told[0] if told else errors[-1].rpartition("\n")[2]).split())[:300]
        return BuildError(f"{what} ended with status {status}: {line}", f"The whole output is in {self._log}.")


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


# -- life


def finish(folder: Path, marker: str, words: Mapping[str, Any]) -> None:
    """Write the marker that makes a folder count as finished, whole or not at all."""
    part = folder / (marker + ".part")
    part.write_text(json.dumps(words, indent=1))
    part.replace(folder / marker)


def read_marker(folder: Path, marker: str) -> dict[str, Any]:
    """Read what a finished folder says of itself; empty for an unfinished one."""
    with contextlib.suppress(OSError, ValueError):
        words: dict[str, Any] = json.loads((folder / marker).read_text())
        return words
    return {}


def serve(ensure: Callable[[dict[str, Any], Teller], dict[str, Any]]) -> NoReturn:
    """Answer the one request and leave; status 0 done, 1 failed, 143 stopped."""
    status = _answer(ensure)
    sys.stdout.flush()
    os._exit(status)  # the thread that waits on standard input would hold up a plain exit


def _answer(ensure: Callable[[dict[str, Any], Teller], dict[str, Any]]) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    request: dict[str, Any] = {}
    try:
        with open(0, "rb", buffering=0, closefd=False) as standard_input:
            request = json.loads(standard_input.readline())
        threading.Thread(target=_watch_input, daemon=True).start()
        os.nice(10)  # what already serves on this node goes first
        tell({"done": ensure(request, Teller())})
    except BuildError as error:
        tell({"error": {"cause": error.cause, "remedy": error.remedy}})
        return 1
    except OSError as error:
        cause = f"{error.strerror}: {error.filename or request.get('cache', '')}."
        remedy = "Look at that path on the node, and at its disk's free space."
        if error.errno in FULL:
            remedy = "Free space there, or choose another cache folder, and try again."
        tell({"error": {"cause": cause, "remedy": remedy}})
        return 1
    except Stopped:
        return 128 + signal.SIGTERM
    return 0


def _stop(*_: object) -> NoReturn:
    """Signal handler: unwind, so that children are ended and what is unfinished is removed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the clean-up itself is not interrupted
    raise Stopped


def _watch_input() -> None:
    """Send oneself SIGTERM when standard input closes: whoever asked is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
