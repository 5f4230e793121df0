"""Rows of a table: conventions read from notes, what is left out, and what is refused."""

import pytest

from corral.catalog.devices import device
from corral.errors import BadInput
from corral.planner.speed.lookup import catalog_names
from corral.planner.speed.rows import read_row
from corral.planner.speed.work import work

UNSEEN_DEVICES = [
    "h200-sxm",
    "r9700",
    "rtx5090",
    "rtx4090",
    "mi50-32",
    "v100-sxm2-16",
    "v100-sxm2-32",
    "m1-ultra",
    "m5-max",
    "rtx5060ti-16",
    "rtx5080",
    "rx7900xtx",
    "rx9070",
    "p40",
    "mi210",
    "rtx-pro-6000",
    "rtx-a5000",
    "rtx3060-12",
    "pi5",
]
UNSEEN_MODELS = [
    "minimax-m2.5",
    "qwen3-235b-a22b",
    "gemma-4-12b",
    "gemma-4-26b-a4b",
    "gemma-4-31b",
    "gemma-3-12b",
    "gemma-3-27b",
    "qwen3.5-9b",
    "qwen3.5-27b",
    "qwen3.5-35b-a3b",
    "qwen3.5-122b-a10b",
    "qwen3-next-80b-a3b",
    "qwen3-14b",
    "qwen2.5-7b",
    "qwen2.5-14b",
    "qwen2.5-32b",
    "llama-2-7b",
    "llama-3.2-3b",
    "llama-3.1-405b",
    "llama-4-scout",
    "mistral-small-3-24b",
    "devstral-2-123b",
    "ministral-3-8b",
    "ministral-3-14b",
    "tinyllama-1.1b",
    "deepseek-r1",
    "glm-4.6",
    "gpt-oss-20b",
    "gpt-oss-120b",
]
LINKS = [
    "none",
    "nvlink",
    "nvlink2",
    "pcie3-p2p",
    "pcie4",
    "pcie5-x8",
    "roce-200g",
    "roce-100g",
    "tcp-200g",
    "tcp-50g",
    "tcp-5g",
    "tcp-1g",
    "tb5-rdma",
    "tb5-tcp",
    "usb4-tcp",
    "carrier-pigeon-3g",
]


@pytest.fixture(scope="module")
def names():
    return catalog_names()


def row(names, **cells):
    given = {"device": "rtx3090", "engine": "vllm", "model": "llama-3.1-8b", "quant": "fp8"}
    return read_row(2, given | {name: str(value) for name, value in cells.items()}, names)


@pytest.mark.parametrize("device", UNSEEN_DEVICES)
def test_every_device_of_the_field_is_covered(names, device):
    assert row(names, device=device).case.device.id == device


@pytest.mark.parametrize("model", UNSEEN_MODELS)
def test_every_model_of_the_field_is_covered(names, model):
    assert row(names, model=model).case.model.id == model


@pytest.mark.parametrize("link", LINKS)
def test_every_link_is_covered(names, link):
    case = row(names, link=link, devices=2, tp=2).case
    assert (case.split.device_link or case.split.node_link) is not None


def test_what_is_left_out_has_a_usual_value(names):
    case = row(names).case
    assert (case.concurrency, case.split.tp, case.kv, case.output) == (1, 1, "auto", 128)


def test_decoding_starts_after_the_prompt(names):
    assert row(names, prompt_tokens=2000, context_tokens=0).case.context == 2000


def test_llama_bench_decodes_at_the_stated_depth(names):
    case = row(names, engine="llamacpp", prompt_tokens=2048, context_tokens=4096).case
    assert (case.context, case.cached, case.prompt) == (4096, 4096, 6144)


def test_llama_cpp_splits_by_layers(names):
    assert row(names, engine="llamacpp", tp=4, devices=4).case.split.pp == 4
    assert row(names, engine="llamacpp", tp=4, devices=4, notes="sm-row").case.split.tp == 4


def test_a_power_limit_is_read_from_the_notes(names):
    assert row(names, notes="kind=x; power limit 220 W/GPU").case.power_limit == 220.0
    assert row(names).case.power_limit is None


@pytest.mark.parametrize(
    ("notes", "warm"),
    [
        ("n=4 concurrent, warm prefix cache: the TTFT is not a prefill measurement", True),
        ("prefix cache on: the TTFT is warm, not a prefill measurement", True),
        ("radix cache off: true cold prefill", False),
        ("", False),
        ("warmup of 3 requests", False),
    ],
)
def test_warm_rows_are_told_by_their_notes(names, notes, warm):
    made = row(names, notes=notes, prompt_tokens=8192)
    assert made.conventions.warm is warm
    assert (made.case.cached > 7000) is warm


@pytest.mark.parametrize(("said", "method"), [("none", None), ("", None), ("mtp-nextn steps=3 draft=4", "mtp")])
def test_speculation(names, said, method):
    made = row(names, speculative=said).case.speculation
    assert (made.method if made else None) == method


def test_an_unknown_format_is_taken_as_the_model_was_published(names):
    assert row(names, quant="marvellous").case.weights == ""


@pytest.mark.parametrize(
    "cells",
    [
        {"device": ""},
        {"device": "an-abacus"},
        {"model": "gpt-99"},
        {"tp": "two"},
        {"tp": "-1"},
        {"tp": "1.5"},
        {"concurrency": "1e30"},
        {"decode_tok_s": "fast"},
        {"ttft_ms": "-3"},
        {"ttft_ms": "nan"},
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_line(names, cells):
    with pytest.raises(BadInput, match="Line 2: "):
        row(names, **cells)


def test_llama_bench_s_depth_is_read_where_the_columns_leave_it_out(names):
    run = {"engine": "llamacpp", "quant": "q4_k_m", "prompt_tokens": 4096, "context_tokens": 0}
    deep = row(names, **run, notes="pp4096 @ d16384").case
    assert (deep.prompt, deep.cached, deep.context) == (4096 + 16384, 16384, 16384)
    assert row(names, **run, locator="llamacpp_q4_k_m_1gpu_d65536").case.cached == 65536
    assert row(names, **run | {"context_tokens": 8192}, notes="pp4096 @ d16384").case.cached == 8192
    assert row(names, **run, notes="read on d2024").case.cached == 0


@pytest.mark.parametrize(
    ("notes", "chunk"),
    [
        ("llama-bench -fa 1 -ub 2048", 2048),
        ("vLLM args: --max-num-batched-tokens 8192 --trust-remote-code", 8192),
        ("llama-bench -fa 1", None),
    ],
)
def test_an_engine_s_own_chunk_is_read(names, notes, chunk):
    assert row(names, notes=notes).case.chunk == chunk


def test_marlin_multiplies_in_16_bit(names):
    known = device("gb10").flops
    plain, marlin = (
        work(row(names, device="gb10", quant="fp8", notes=n).case) for n in ("", "--linear-backend marlin")
    )
    assert plain.peak == known["fp8"]
    assert marlin.peak == known["bf16"]
    assert marlin.dense_bytes == plain.dense_bytes


def test_llama_cpp_alone_splits_by_layers_what_a_row_calls_tensor_parallel(names):
    degrees = {"devices": 4, "nodes": 4, "tp": 4, "link": "tcp-1g", "device": "pi5", "quant": "q4_0"}
    assert row(names, **degrees, engine="distributed-llama").case.split.tp == 4
    assert row(names, **degrees, engine="llamacpp-rpc").case.split.pp == 4
    assert row(names, **degrees, engine="llamacpp", notes="sm-row").case.split.tp == 4
