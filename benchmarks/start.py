"""How long a start takes and how much memory the head holds, in a state folder of its own; prints medians.

    python benchmarks/start.py            import, --help, `up` to the first token, `down`, the head's memory
    python benchmarks/start.py --cold     also a fresh clone, `make up` and the first chat completion
    python benchmarks/start.py --json

Machines are noisy: medians of several runs are printed with the slowest. The limits are the project's own.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from openai import OpenAI
from rich.console import Console
from rich.table import Table

PROGRAM = Path(sys.executable).with_name("corral")
REPOSITORY = Path(__file__).resolve().parents[1]


def timed(work: Callable[[], object]) -> float:
    """Seconds that the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run(*argv: object, env: dict[str, str], cwd: Path | None = None) -> str:
    """Run a command that must succeed; gives its standard output."""
    done = subprocess.run([str(a) for a in argv], env=env, cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def ask(base_url: str, model: str) -> None:
    """Wait for the first token of a chat completion, as a client sees it."""
    client = OpenAI(base_url=base_url, api_key="none")
    messages = [{"role": "user", "content": "Who are you?"}]
    with client.chat.completions.create(model=model, messages=messages, stream=True) as stream:
        next(chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)


def resident(home: Path) -> int:
    """Bytes that the head holds in memory."""
    pid = json.loads((home / "head.lock").read_text())["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def cycle(env: dict[str, str], found: dict[str, list[float]]) -> None:
    """One `up` to the first token and one `down`, with packages and model there already."""

    def up() -> None:
        told = json.loads(run(PROGRAM, "up", "demo", "--port", 0, "--detach", "--json", env=env))
        ask(told["base_url"], told["deployment"])

    found["up to first token, s"].append(timed(up))
    found["head's memory, MB"].append(resident(Path(env["CORRAL_HOME"])) / 1e6)
    found["down, s"].append(timed(lambda: run(PROGRAM, "down", "--json", env=env)))


def cold(folder: Path, env: dict[str, str]) -> float:
    """Seconds from a fresh clone to the first token; packages come from pip's cache where it has them."""
    run("git", "clone", "--quiet", REPOSITORY, folder / "clone", env=env)

    def up() -> None:
        told = run("make", "--silent", "up", "ARGS=demo --port 0 --detach --json", env=env, cwd=folder / "clone")
        answer = json.loads(told[told.index("{") :])
        ask(answer["base_url"], answer["deployment"])

    seconds = timed(up)
    run(folder / "clone" / ".venv" / "bin" / "corral", "down", "--json", env=env)
    return seconds


LIMITS = {
    "import corral, s": 0.150,
    "corral --help, s": 0.300,
    "up to first token, s": 5.0,
    "head's memory, MB": 150.0,
    "fresh clone to first token, s": 60.0,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cold", action="store_true", help="also from a fresh clone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="corral-bench-"))
    env = os.environ | {"CORRAL_HOME": str(folder / "state")}
    found: dict[str, list[float]] = {name: [] for name in (*LIMITS, "down, s")}
    try:
        for _ in range(options.runs):
            found["import corral, s"].append(timed(lambda: run(sys.executable, "-c", "import corral", env=env)))
            found["corral --help, s"].append(timed(lambda: run(PROGRAM, "--help", env=env)))
            cycle(env, found)
        if options.cold:
            found["fresh clone to first token, s"].append(cold(folder, env))
    finally:
        subprocess.run([PROGRAM, "down"], env=env, check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
    report({name: values for name, values in found.items() if values}, as_json=options.json)


def report(found: dict[str, list[float]], *, as_json: bool) -> None:
    """Print medians, the worst, and the limit where there is one."""
    if as_json:
        rows = {name: {"median": statistics.median(v), "worst": max(v), "runs": len(v)} for name, v in found.items()}
        print(json.dumps({"schema": "corral.bench-start/1", "rows": rows}, indent=2))
        return
    table = Table("what", "median", "worst", "runs", "limit", box=None)
    for name, values in found.items():
        limit = f"{LIMITS[name]:g}" if name in LIMITS else ""
        table.add_row(name, f"{statistics.median(values):.3f}", f"{max(values):.3f}", str(len(values)), limit)
    Console().print(table)


if __name__ == "__main__":
    main()
