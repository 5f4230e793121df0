"""How long planning takes: every layout of one model on 16 nodes of 8 devices, and `corral plan` from the shell.

python benchmarks/plan.py [--rounds N] [--model ID]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from corral.cluster.file import dump
from corral.cluster.values import Cluster, Device, Link, Node
from corral.models.known import architecture
from corral.planner.plan import Workload
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.judge import Asked
from corral.units import GIB

_MODELS = ("llama-3.1-405b", "qwen3-235b-a22b", "deepseek-v3", "gpt-oss-120b")


def cluster_of(nodes: int, devices: int) -> Cluster:
    """Equal nodes with so many H100 each, on 400 Gb/s."""
    names = [f"node{number}" for number in range(nodes)]
    cards = Device(name="h100-sxm", vendor="nvidia", count=devices, memory=80 * GIB)
    return Cluster(
        name="large",
        nodes=tuple(Node(name=name, address=f"10.0.0.{at + 1}", devices=(cards,)) for at, name in enumerate(names)),
        links=(Link(between=tuple(names), switch="switch", kind="roce-400g"),),
    )


def seconds_to_plan(model: str, concurrency: int, rounds: int) -> tuple[float, float, int]:
    """Best and median seconds of a warm plan, and the layouts that it looked at."""
    cluster = cluster_of(16, 8)
    asked = Asked(
        model=architecture(model),
        work=Workload(context=8192, prompt=2048, output=512, concurrency=concurrency),
    )
    taken: list[float] = []
    considered = 0
    for _ in range(rounds + 1):
        start = time.perf_counter()
        considered = plan(asked, cluster, Wishes()).considered
        taken.append(time.perf_counter() - start)
    return min(taken[1:]), statistics.median(taken[1:]), considered


def seconds_from_the_shell(rounds: int) -> tuple[float, float]:
    """Best and median seconds of the whole command, a cold Python included."""
    corral = Path(sys.executable).with_name("corral")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cluster.yaml"
        file.write_text(dump(cluster_of(16, 8)), encoding="utf-8")
        taken: list[float] = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run([corral, "plan", "llama-3.1-405b", "-c", file], check=True, stdout=subprocess.DEVNULL)
            taken.append(time.perf_counter() - start)
    return min(taken), statistics.median(taken)


def main() -> None:
    """Print a table, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", action="append")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core
    found: dict[str, object] = {}
    print(f"{'':34}{'best':>10}{'median':>10}{'layouts':>10}")
    for model in options.model or _MODELS:
        for concurrency in (1, 16):
            best, median, considered = seconds_to_plan(model, concurrency, options.rounds)
            print(f"{model + f', {concurrency} at once':34}{best * 1e3:7.1f} ms{median * 1e3:7.1f} ms{considered:10}")
            found[f"{model}/{concurrency}"] = {"best": best, "median": median, "considered": considered}
    best, median = seconds_from_the_shell(options.rounds)
    print(f"{'corral plan, from the shell':34}{best * 1e3:7.0f} ms{median * 1e3:7.0f} ms")
    found["shell"] = {"best": best, "median": median}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
