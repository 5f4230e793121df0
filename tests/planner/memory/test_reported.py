"""What the planner predicts is what the real engines report: from the record, and from engines started here."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from corral.engines.llamacpp.versions import build
from corral.engines.vllm.environments import environment
from corral.planner.memory import stage_memory
from corral.planner.memory.rank import cache_pool
from engines.environments import made
from planner.memory.asking import (
    ask_llamacpp,
    ask_llamacpp_split,
    ask_vllm,
    predict_llamacpp,
    predict_llamacpp_split,
    predict_vllm,
    recorded,
    start_vllm,
)
from planner.memory.engine_cases import LLAMACPP, LLAMACPP_LARGE, LLAMACPP_SPLIT, VLLM, VLLM_STARTED

ROOT = Path(__file__).parents[3]
EVERY_LLAMACPP = (*LLAMACPP, *LLAMACPP_LARGE)


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def close(predicted, reported, share, least):
    assert predicted == pytest.approx(reported, rel=share, abs=least)


def holds_llamacpp(case, reported):
    """Weights within 3 %, caches to the byte, the compute buffer within a quarter or 8 MiB, never half below."""
    predicted = predict_llamacpp(case)
    close(predicted["weights"], reported["weights"], 0.03, 0.1)
    close(predicted["kv"], reported["kv"], 0, 0.011)
    close(predicted["state"], reported["state"], 0, 0.011)
    close(predicted["compute"], reported["compute"], 0.25, 8)
    assert predicted["compute"] >= 0.95 * reported["compute"]
    close(sum(predicted.values()), sum(reported.values()), 0.03, 8)


def holds_split(case, reported):
    """On each of several devices as on one; the embedding stays with the server."""
    predicted = predict_llamacpp_split(case)
    close(predicted["host"], reported["host"], 0.03, 0.1)
    for part, share, least in (("weights", 0.03, 0.1), ("kv", 0, 0.011), ("state", 0, 0.011), ("compute", 0.25, 8)):
        for ours, theirs in zip(predicted[part], reported[part], strict=True):
            close(ours, theirs, share, least)


def holds_vllm(case, reported):
    """Weights within 3 % (a rank of Mamba-2 holds its groups again), the cache's capacity as logged."""
    predicted = predict_vllm(case)
    for ours, theirs in zip(predicted["weights"], reported["weights"], strict=True):
        close(ours, theirs, 0.03, 0)
    assert predicted["blocks"] == reported["blocks"]
    assert predicted["requests"] == pytest.approx(reported["requests"], abs=0.011)
    assert predicted["tokens"] == pytest.approx(reported["tokens"], abs=1)


@named(EVERY_LLAMACPP)
def test_llama_cpp_took_what_was_predicted(case):
    holds_llamacpp(case, recorded()["llamacpp"][case.name])


@named(LLAMACPP_SPLIT)
def test_llama_cpp_took_what_was_predicted_on_each_device(case):
    holds_split(case, recorded()["llamacpp-rpc"][case.name])


@named(VLLM)
def test_vllm_took_what_was_predicted(case):
    holds_vllm(case, recorded()["vllm"][case.name])


def test_the_documentation_shows_what_the_benchmark_prints(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["memory.py"])
    runpy.run_path(str(ROOT / "benchmarks" / "memory.py"), run_name="__main__")
    assert capsys.readouterr().out in (ROOT / "docs" / "memory.md").read_text()


@pytest.mark.slow
@named(LLAMACPP)
def test_llama_cpp_takes_what_is_predicted(case, tmp_path):
    holds_llamacpp(case, ask_llamacpp(case, tmp_path))


@pytest.mark.slow
@named(LLAMACPP_SPLIT)
def test_llama_cpp_takes_what_is_predicted_on_each_device(case, tmp_path):
    holds_split(case, ask_llamacpp_split(case, tmp_path, made(build("cpu"))))


@pytest.mark.slow
@named([case for case in VLLM if case.name in VLLM_STARTED])
def test_vllm_takes_what_is_predicted(case, tmp_path):
    holds_vllm(case, ask_vllm(case, tmp_path, made(environment("cpu"))))


@pytest.mark.slow
@named([case for case in VLLM if case.name in {"sliding", "mamba2"}])
def test_vllm_starts_with_the_cache_that_was_planned_and_not_with_a_block_less(case, tmp_path):
    alone = replace(case, requests=1)
    (rank,) = stage_memory(alone.memory)
    (block,) = cache_pool(alone.memory).block_bytes
    folder = made(environment("cpu"))
    assert start_vllm(alone, tmp_path, folder, rank.cache).returncode == 0
    refused = start_vllm(alone, tmp_path, folder, rank.cache - block)
    assert refused.returncode != 0
    assert "larger than the available KV cache memory" in refused.stderr
