"""What engines do with a format on a device, by version: the cases that people stumble over."""

import pytest

from corral.catalog.devices import device, known_devices
from corral.catalog.engines import engine, format_group, known_engines, support
from corral.errors import BadInput

MOE = "Qwen3MoeForCausalLM"


@pytest.mark.parametrize(
    ("name", "version", "on", "weights", "architecture", "verdict"),
    [
        ("vllm", "0.26.0", "v100-sxm2-32", "bf16", "", "emulated"),
        ("vllm", "0.26.0", "v100-sxm2-32", "fp16", "", "native"),
        ("vllm", "0.26.0", "v100-sxm2-32", "fp8", "", "no"),
        ("vllm", "0.26.0", "v100-sxm2-32", "awq-int4", "", "no"),
        ("1cat-vllm", "0.0.3", "v100-sxm2-32", "awq-int4", "", "native"),
        ("vllm", "0.26.0", "p40", "fp16", "", "no"),
        ("vllm", "0.26.0", "rtx3090", "bf16", "", "native"),
        ("vllm", "0.26.0", "rtx3090", "fp8", "", "emulated"),
        ("vllm", "0.26.0", "rtx3090", "int8", "", "native"),
        ("vllm", "0.26.0", "rtx3090", "mxfp4", "GptOssForCausalLM", "emulated"),
        ("vllm", "0.26.0", "rtx4090", "fp8", "", "native"),
        ("vllm", "0.26.0", "h100-sxm", "nvfp4", "", "emulated"),
        ("vllm", "0.26.0", "b200-sxm", "nvfp4", MOE, "native"),
        ("vllm", "0.26.0", "b200-sxm", "int8", "", "no"),
        ("vllm", "0.26.0", "gb10", "nvfp4", "LlamaForCausalLM", "native"),
        ("vllm", "0.26.0", "gb10", "nvfp4", MOE, "emulated"),
        ("vllm", "0.12.0", "gb10", "nvfp4", "LlamaForCausalLM", "emulated"),
        ("vllm", "0.11.0", "gb10", "nvfp4", MOE, "no"),
        ("vllm", "0.11.0", "rtx5090", "nvfp4", MOE, "no"),
        ("vllm", "0.26.0", "m2-ultra", "bf16", "", "no"),
        ("vllm", "0.26.0", "mi300x", "fp8", "", "native"),
        ("vllm", "0.26.0", "mi50-32", "bf16", "", "emulated"),
        ("vllm", "0.26.0", "xeon-amx-8ch", "bf16", "", "native"),
        ("sglang", "0.5.12", "gb10", "nvfp4", "NemotronHForCausalLM", "native"),
        ("sglang", "0.5.12", "v100-sxm2-16", "fp16", "", "no"),
        ("trt-llm", "1.0.0rc3", "h100-sxm", "fp8", "", "native"),
        ("trt-llm", "1.0", "a100-sxm-80", "fp8", "", "no"),
        ("trt-llm", "1.0", "v100-sxm2-32", "fp16", "", "no"),
        ("llamacpp", "11fb327bf (7941)", "gb10", "mxfp4", "", "native"),
        ("llamacpp", "b5000", "gb10", "mxfp4", "", "emulated"),
        ("llamacpp", "", "mi50-32", "q4_k_m", "", "native"),
        ("llamacpp", "", "rtx3090", "awq-int4", "", "no"),
        ("llamacpp-rpc", "", "m2-ultra", "q8_0", "", "native"),
        ("exllamav3", "1.0.0", "rtx3090", "exl3-4bpw", "", "native"),
        ("exllamav3", "1.0.0", "rtx2080ti", "exl3-4bpw", "", "no"),
        ("distributed-llama", "", "pi5", "q4_0", "", "native"),
        ("exo", "", "m3-ultra", "mlx-4bit", "", "native"),
    ],
)
def test_what_runs(name, version, on, weights, architecture, verdict):
    answer = support(name, version, device(on), weights, architecture)
    assert answer.verdict == verdict, answer.sentence
    assert answer.sentence.endswith(".")
    assert answer.source


@pytest.mark.parametrize("name", known_engines())
def test_an_engine_answers_for_every_device_and_format(name):
    formats = [
        "bf16",
        "fp16",
        "fp8",
        "int8",
        "nvfp4",
        "mxfp4",
        "mxfp8",
        "awq-int4",
        "gptq-int4",
        "q4_k_m",
        "exl3-4bpw",
        "mlx-4bit",
        "bnb-4bit",
        "fp32",
        "odd",
    ]
    verdicts = {support(name, "", device(on), weights).verdict for on in known_devices() for weights in formats}
    assert verdicts >= {"native", "no"}
    spec = engine(name)
    assert spec.parallelism
    assert spec.vendors


def test_a_version_that_says_nothing_is_the_newest():
    newest = support("vllm", "", device("gb10"), "nvfp4", MOE)
    assert support("vllm", "0.1.dev12777", device("gb10"), "nvfp4", MOE) == newest
    assert support("vllm", "nightly", device("gb10"), "nvfp4", MOE) == newest


@pytest.mark.parametrize(
    ("weights", "group"),
    [
        ("awq-int4", "awq"),
        ("autoround-int4", "gptq"),
        ("Q4_K_M", "gguf"),
        ("ud-q4_k_xl", "gguf"),
        ("iq2", "gguf"),
        ("f16", "fp16"),
        ("fp8_e4m3", "fp8"),
        ("mxfp8", "mxfp8"),
        ("exl3-6bpw", "exl3"),
        ("", ""),
        ("strange", ""),
    ],
)
def test_groups_of_formats(weights, group):
    assert format_group(weights) == group


def test_an_unknown_engine_is_told():
    with pytest.raises(BadInput, match=r"near it are vllm"):
        support("vlm", "", device("gb10"), "bf16")
