"""Builds llama.cpp's programs on the node that it is sent to; knows no cluster, no model and no other node.

Standard library only (Python 3.8 or newer); how it is asked and answers: `building`. When it is stopped, the build
tree is removed.

Request:
    {"cache": "~/.cache/corral", "digest": "12 hex digits",
     "source": "llama-cpp-python==0.3.36 --hash=sha256:...", "options": ["GGML_RPC=ON", ...],
     "targets": ["llama-server", ...], "archive": optional path of the source on this node}

What it leaves: `<cache>/envs/<digest>/bin/*` and `<cache>/envs/<digest>/corral.json`, written last, which makes the
folder count as finished. Programs are compiled for the CPU and the C library at hand; a machine of another kind that
shares the folder (a home on NFS) builds its own `<digest>-<machine>` beside it. `done` says which `folder` it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from corral.launcher.onnode.building import BuildError, Failures, Shell, Teller, finish, locked, read_marker, serve

MARKER = "corral.json"
DISK_NEEDED = 700_000_000  # bytes; seen: 420 MB of sources, objects and programs for a CPU build
MEMORY_A_JOB = 1_200_000_000  # bytes; the largest compiler process seen took 1.1 GB
# Parts of the source tree that no wanted program needs, half of its size.
SKIPPED = frozenset({".git", "benches", "docs", "examples", "gguf-py", "media", "models", "pocs", "skills", "tests"})

FAILURES: Failures = (
    (
        r"No space left on device|Disk quota exceeded",
        "The disk filled up while llama.cpp was built.",
        "Free 1 GB in the cache's folder and try again.",
    ),
    (
        r"Killed signal terminated program|virtual memory exhausted|out of memory allocating",
        "The compiler ran out of memory.",
        "Free memory on the node (a compiler process takes up to 1.2 GB) and try again.",
    ),
    (
        r"No CMAKE_CUDA_COMPILER|Failed to find nvcc|CUDA Toolkit not found|Could NOT find CUDAToolkit",
        "There is no CUDA compiler (nvcc) on the node.",
        "Install the CUDA toolkit, or name a folder with llama.cpp's programs in the cluster file.",
    ),
    (
        r"Could not find a package configuration file provided by .hip|HIP.*not found|No CMAKE_HIP_COMPILER",
        "There is no HIP compiler on the node.",
        "Install ROCm's HIP development packages, or name a folder with llama.cpp's programs in the cluster file.",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "The source that was fetched is not the one that was pinned.",
        "Ask whoever runs the package index; do not build it.",
    ),
    (
        r"No matching distribution found|Could not find a version that satisfies",
        "The package index that pip uses has no llama.cpp source of the pinned version, or cannot be reached.",
        "Check the node's network and pip's configuration (pip config list), or give a local archive.",
    ),
    (
        r"NewConnectionError|Connection refused|Temporary failure in name resolution|timed out|ProxyError",
        "The package index that pip uses cannot be reached from the node.",
        "Check the node's network, proxy and pip's configuration (pip config list), or give a local archive.",
    ),
)


# -- the machine


def usable_memory() -> int | None:
    """Bytes of memory that are free to use; None where the system does not say."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        return int(found[1]) * 1024 if found else None
    return None


def jobs() -> int:
    """How many compilers may run at once: one a core, as far as memory goes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = usable_memory()
    return max(1, cores if memory is None else min(cores, memory // MEMORY_A_JOB))


def machine_kind() -> str:
    """Name the machine's instruction set and C library in eight hex digits: equal ones run each other's programs."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    # Only what compilers make use of; the kernel adds and drops other flags from version to version.
    wanted = re.compile(r"avx|sse|ssse|fma|f16c|bmi|amx|sve|sme|asimd|i8mm|bf16|fphp|dotprod")
    flags = sorted(flag for flag in (found[1].split() if found else ()) if wanted.match(flag))
    key = json.dumps([platform.system(), platform.machine(), platform.libc_ver(), flags])
    return hashlib.sha256(key.encode()).hexdigest()[:8]


# -- steps


def python_tools(shell: Shell, tree: Path, *packages: str) -> Path:
    """Make a private virtual environment in the build tree, with these packages; its folder of programs."""
    home = tree / "tools"
    try:
        shell.run("Making a virtual environment", [sys.executable, "-m", "venv", str(home)])
    except BuildError:
        raise BuildError(
            f"{sys.executable} cannot make virtual environments.",
            "Install Python's venv module (Debian, Ubuntu: apt install python3-venv).",
        ) from None
    if packages:
        shell.run("Installing build tools", [str(home / "bin" / "python"), "-m", "pip", "install", "-q", *packages])
    return home / "bin"


def find_tools(shell: Shell, tree: Path, tell_text: Teller) -> None:
    """Make sure of a compiler, cmake and ninja on shell.env's PATH; the last two come from PyPI where missing."""
    path = shell.env["PATH"]
    if not any(shutil.which(name, path=path) for name in (shell.env.get("CXX", "c++"), "g++", "clang++")):
        raise BuildError(
            "There is no C++ compiler on the node.",
            "Install one (Debian: apt install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install).",
        )
    missing = [name for name in ("cmake", "ninja") if not shutil.which(name, path=path)]
    if missing:
        tell_text.progress(0.01, f"fetching {' and '.join(missing)}")
        shell.env["PATH"] = str(python_tools(shell, tree, *missing)) + os.pathsep + path


def fetch(shell: Shell, tree: Path, request: dict[str, Any]) -> Path:
    """Bring the source archive to this node by pip, so that the user's own configuration of it is honoured."""
    if request.get("archive"):
        archive = Path(request["archive"]).expanduser()
        if not archive.is_file():
            raise BuildError(f"There is no source archive {archive} on the node.", "Give another path, or none.")
        return archive
    python = sys.executable
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        python = str(python_tools(shell, tree) / "python")
    (tree / "source.txt").write_text(request["source"] + "\n")
    folder = tree / "download"
    # The source of this package alone: what pip needs to look into it comes as wheels.
    name = re.split(r"[=\s]", request["source"], maxsplit=1)[0]
    argv = [python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "--no-cache-dir"]
    shell.run("Fetching the source", [*argv, "-d", str(folder), "-r", str(tree / "source.txt")])
    return next(folder.iterdir())


def unpack(archive: Path, source: str, into: Path) -> None:
    """Unpack vendor/llama.cpp of the archive, without what no wanted program needs; its hash must be the pinned one."""
    pinned = re.search(r"--hash=sha256:([0-9a-f]{64})", source)
    if pinned and digest_of(archive) != pinned[1]:
        raise BuildError(f"{archive} is not the pinned source: its SHA-256 differs.", "Fetch it again, or give none.")
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                parts = member.name.split("/", 3)
                if parts[1:3] != ["vendor", "llama.cpp"] or len(parts) < 4 or not (member.isfile() or member.isdir()):
                    continue
                if parts[3].split("/")[0] in SKIPPED or ".." in parts[3].split("/"):
                    continue
                member.name = parts[3]
                packed.extract(member, into, set_attrs=member.isfile())
    except (tarfile.TarError, EOFError) as error:
        raise BuildError(f"{archive} is damaged: {error}.", "Fetch it again.") from None


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


def compile_all(shell: Shell, source: Path, tree: Path, request: dict[str, Any], teller: Teller) -> Path:
    """Configure and build the targets; the folder that holds the programs."""
    build = tree / "build"
    teller.progress(0.05, "configuring")
    options = ["-D" + option for option in request["options"]]
    shell.run("Configuring", ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(build), *options])
    argv = ["cmake", "--build", str(build), "-j", str(jobs()), "--target", *request["targets"]]
    for line in shell.lines("Compiling", argv):
        step = re.match(r"\[(\d+)/(\d+)\]", line)
        if step:
            teller.progress(0.06 + 0.93 * int(step[1]) / int(step[2]), f"compiling {step[1]} of {step[2]}")
    return build / "bin"


def install(shell: Shell, programs: Path, folder: Path, request: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Prove that the programs start, put them in their place and write the marker, last."""
    target = folder / "bin"
    target.mkdir(parents=True, exist_ok=True)
    for name in request["targets"]:
        shell.run(f"Starting {name}", [str(programs / name), "--help"])
        shutil.copy2(programs / name, target / name)
    marker = {
        "kind": "llama.cpp",
        "digest": request["digest"],
        "source": request["source"],
        "options": request["options"],
        "targets": request["targets"],
        "machine": machine_kind(),
        "seconds": round(seconds, 1),
    }
    finish(folder, MARKER, marker)
    return marker


# -- verbs


def ensure(request: dict[str, Any], teller: Teller) -> dict[str, Any]:
    """Build the programs unless they stand already; where they are."""
    environments = Path(request["cache"]).expanduser() / "envs"
    environments.mkdir(parents=True, exist_ok=True)
    for name in (request["digest"], f"{request['digest']}-{machine_kind()}"):
        folder = environments / name
        marker = read_marker(folder, MARKER)
        if not marker:
            with locked(environments / f"{name}.lock", teller):
                marker = read_marker(folder, MARKER)  # whoever held the lock before may have built it
                if not marker:
                    marker = build(request, folder, teller)
                    return {"folder": str(folder), "built": True, "seconds": marker["seconds"]}
        if marker["machine"] == machine_kind():
            return {"folder": str(folder), "built": False, "seconds": 0.0}
    raise BuildError(f"{folder} holds programs for another machine.", f"Remove {folder} and try again.")


def build(request: dict[str, Any], folder: Path, teller: Teller) -> dict[str, Any]:
    """Build into `folder`, through a tree beside it that is removed whatever happens; a failure's log is kept."""
    began = time.monotonic()
    tree = folder.with_name(f".{folder.name}.build")
    log = folder.with_name(f"{folder.name}.log")
    for leftover in (tree, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    free = shutil.disk_usage(folder.parent).free
    if free < DISK_NEEDED:
        raise BuildError(
            f"{folder.parent} has {free // 10**6} MB free; building llama.cpp needs {DISK_NEEDED // 10**6} MB.",
            "Free some space, or choose another cache folder.",
        )
    tree.mkdir()
    log.write_text("")
    try:
        with Shell(log, FAILURES, {}, build_environment(tree)) as shell:
            find_tools(shell, tree, teller)
            teller.progress(0.02, f"fetching {request['source'].split()[0]}")
            archive = fetch(shell, tree, request)
            teller.progress(0.04, "unpacking")
            unpack(archive, request["source"], tree / "source")
            programs = compile_all(shell, tree / "source", tree, request, teller)
            marker = install(shell, programs, folder, request, time.monotonic() - began)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    log.unlink()
    return marker


def build_environment(tree: Path) -> dict[str, str]:
    """Give the steps' environment: the caller's, with CUDA's and ROCm's usual places and a private temporary folder."""
    env = dict(os.environ)
    found = [place for place in ("/usr/local/cuda/bin", "/opt/rocm/bin") if Path(place).is_dir()]
    env["PATH"] = os.pathsep.join([env.get("PATH", os.defpath), *found])
    (tree / "tmp").mkdir()
    env.update(TMPDIR=str(tree / "tmp"), LC_ALL="C", PIP_DISABLE_PIP_VERSION_CHECK="1", NINJA_STATUS="[%f/%t] ")
    return env


if __name__ == "__main__":
    serve(ensure)
