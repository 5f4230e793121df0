"""What the planner predicts of memory beside what real engines report, part by part; prints a table in Markdown.

    python benchmarks/memory.py             from the record
    python benchmarks/memory.py --ask       start llama.cpp and vLLM on this machine's CPU (ten minutes)
    python benchmarks/memory.py --record    the same, and keep what they report for the tests

Engines get models that are made for this: small ones, and single layers as large as those of real models, whose files
hold zeros and take no disk.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rich.console import Console
from rich.progress import track

from corral.engines.llamacpp.versions import build
from corral.engines.vllm.environments import environment
from engines.environments import made
from planner.memory.asking import (
    RECORDED,
    ask_llamacpp,
    ask_llamacpp_split,
    ask_vllm,
    predict_llamacpp,
    predict_llamacpp_split,
    predict_vllm,
    recorded,
)
from planner.memory.engine_cases import LLAMACPP, LLAMACPP_LARGE, LLAMACPP_SPLIT, VLLM, Case

Reports = dict[str, dict[str, dict]]


def ask(engine: str | None) -> Reports:
    """Start the engine, or both, for every case."""
    asked: dict[str, tuple[tuple[Case, ...], Callable[[Case, Path], dict]]] = {
        "llamacpp": ((*LLAMACPP, *LLAMACPP_LARGE), ask_llamacpp),
        "llamacpp-rpc": (LLAMACPP_SPLIT, lambda case, where: ask_llamacpp_split(case, where, made(build("cpu")))),
        "vllm": (VLLM, lambda case, where: ask_vllm(case, where, made(environment("cpu")))),
    }
    reports: Reports = recorded() if engine else {}
    starts = [(name, case) for name in asked if engine in {None, name} for case in asked[name][0]]
    for name, case in track(starts, description="starting engines", console=Console(stderr=True)):
        with tempfile.TemporaryDirectory() as scratch:
            reports.setdefault(name, {})[case.name] = asked[name][1](case, Path(scratch))
    return reports


def cell(predicted: float, reported: float, form: str) -> str:
    """Both numbers, and by how much the first is off."""
    off = f" ({predicted / reported - 1:+.1%})" if reported and abs(predicted / reported - 1) >= 0.0005 else ""
    return f"{predicted:{form}} / {reported:{form}}{off}" if predicted or reported else ""


def llamacpp_row(case: Case, told: dict) -> str:
    """Predicted / reported, MiB."""
    ours = predict_llamacpp(case)
    cells = [cell(ours[part], told[part], ",.1f") for part in ("weights", "kv", "state", "compute")]
    form = f"{case.weights}, KV {case.kv}"
    return f"| {case.name} | {form} | {case.requests} x {case.context:,} | {' | '.join(cells)} |"


def split_row(case: Case, told: dict) -> str:
    """Predicted / reported by device, MiB."""
    ours = predict_llamacpp_split(case)
    cells = [
        "; ".join(filter(None, (cell(*pair, ",.1f") for pair in zip(ours[part], told[part], strict=True))))
        for part in ("weights", "kv", "state", "compute")
    ]
    return f"| {case.name} | {' | '.join(cells)} |"


def vllm_row(case: Case, told: dict) -> str:
    """Predicted / reported."""
    ours = predict_vllm(case)
    weights = cell(max(ours["weights"]) / 2**20, max(told["weights"]) / 2**20, ",.2f")
    cells = [cell(ours[part], told[part], form) for part, form in (("tokens", ",d"), ("requests", ".2f"))]
    return f"| {case.name} | {case.weights} | {weights} | {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ask", action="store_true", help="start the engines instead of reading the record")
    parser.add_argument("--record", action="store_true", help="start them, and write the record")
    parser.add_argument("--engine", choices=["llamacpp", "llamacpp-rpc", "vllm"], help="start this one alone")
    options = parser.parse_args()
    reports = ask(options.engine) if options.ask or options.record else recorded()
    if options.record:
        RECORDED.write_text(json.dumps(reports, indent=1) + "\n")
    print("llama.cpp, MiB, predicted / reported:\n")
    print("| model | formats | slots x context | weights | KV cache | state | compute buffer |")
    print("|---|---|---|---|---|---|---|")
    for case in (*LLAMACPP, *LLAMACPP_LARGE):
        print(llamacpp_row(case, reports["llamacpp"][case.name]))
    print("\nllama.cpp over RPC, MiB of each device, predicted / reported:\n")
    print("| model | weights | KV cache | state | compute buffer |")
    print("|---|---|---|---|---|")
    for case in LLAMACPP_SPLIT:
        print(split_row(case, reports["llamacpp-rpc"][case.name]))
    print("\nvLLM, predicted / reported; a cache of 64 MiB a rank, requests of 4,096 tokens:\n")
    print("| model | format | weights of the fullest rank, MiB | tokens in the cache | requests at once |")
    print("|---|---|---|---|---|")
    for case in VLLM:
        print(vllm_row(case, reports["vllm"][case.name]))


if __name__ == "__main__":
    main()
