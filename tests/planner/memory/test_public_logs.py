"""What engines on real accelerators said of known models in logs that others published, beside what is predicted."""

from dataclasses import replace

import pytest

from corral.catalog.devices import device
from corral.models.known import architecture
from corral.planner.memory import MemoryCase, stage_memory
from corral.planner.memory.rank import cache_pool
from corral.planner.speed.values import Split
from corral.units import GIB, MIB


def case(model, spec, weights, *, engine="vllm", tp=1, context=8192, requests=256, **changes):
    return MemoryCase(
        model=architecture(model), split=Split(tp=tp), engine=engine, devices=(device(spec),), weights=weights,
        context=context, concurrency=requests, **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "spec", "weights", "tp", "reported"),
    [
        ("llama-3.1-8b", "l40s", "bf16", 1, 14.9889),  # github.com/vllm-project/vllm/pull/17122
        ("llama-3.1-8b", "a100-sxm-80", "bf16", 2, 7.48),  # github.com/vllm-project/vllm/pull/10511 (Llama 3)
        ("deepseek-r1", "rtx3090", "awq-int4", 16, 21.21),  # github.com/vllm-project/vllm/pull/14447
        ("gpt-oss-20b", "a100-sxm-80", "mxfp4", 1, 13.72),  # myoceane.fr/index.php/ai-vllm-a100-gemma-4
    ],
)
def test_weights_of_a_rank_of_vllm(model, spec, weights, tp, reported):
    (rank,) = stage_memory(case(model, spec, weights, tp=tp))
    assert rank.weights / GIB == pytest.approx(reported, rel=0.01)


def test_activations_while_vllm_profiles():
    """The sampler's rows decide in the first, experts' workspaces in the second (pull requests 10511 and 14447)."""
    (dense,) = stage_memory(case("llama-3.1-8b", "a100-sxm-80", "bf16", batch=8192))
    (experts,) = stage_memory(case("deepseek-r1", "rtx3090", "awq-int4", tp=16, requests=16))
    assert dense.activations / GIB == pytest.approx(1.26, abs=0.15)
    assert experts.activations / GIB == pytest.approx(0.37, abs=0.05)


def test_a_tower_s_pictures_are_kept_while_the_language_model_is_profiled():
    """A 16 GB card with a model of Qwen3.5 27B's sizes has 0.79 GiB, 0.04 GiB of graphs among them (vLLM 0.32)."""
    (rank,) = stage_memory(case("qwen3.5-27b", "rtx5080", "nvfp4", requests=1))
    assert rank.activations / GIB == pytest.approx(0.75, abs=0.1)
    text = architecture("qwen3.5-27b").model_copy(update={"vision": 0})
    (alone,) = stage_memory(replace(case("qwen3.5-27b", "rtx5080", "nvfp4", requests=1), model=text))
    assert alone.activations < rank.activations / 2


def test_what_a_cache_of_vllm_holds():
    """github.com/vllm-project/vllm/pull/17122: 158,656 tokens, 4.84 requests of 32,768."""
    pool = cache_pool(case("llama-3.1-8b", "l40s", "bf16", context=32768))
    held = pool.capacity([158656 * 131072], 32768)
    assert (held.tokens, round(held.requests, 2)) == (158656, 4.84)


def test_a_file_of_a_mix_of_formats():
    """github.com/ggml-org/llama.cpp/issues/15253: gpt-oss-120b with MXFP4 experts, the rest in Q8_0, 59.02 GiB."""
    (rank,) = stage_memory(case("gpt-oss-120b", "h100-sxm", "mxfp4", engine="llamacpp", requests=1))
    assert (rank.weights + rank.host) / GIB == pytest.approx(59.02, rel=0.01)


def test_the_window_of_vectors_that_stand_for_several_tokens():
    """github.com/ggml-org/llama.cpp/issues/27680: DeepSeek V4 Flash with a batch of 4,096, 4,352 cells, 182.75 MiB."""
    model = architecture("deepseek-v4-flash")
    windows = model.model_copy(
        update={
            "blocks": tuple(
                block.model_copy(update={"mixer": block.mixer.model_copy(update={"window_only": True})})
                for block in model.blocks
            )
        }
    )
    (rank,) = stage_memory(
        MemoryCase(
            model=windows,
            split=Split(),
            engine="llamacpp",
            devices=(device("rtx-pro-6000"),),
            weights="q4_k_m",
            context=64000,
            concurrency=1,
            batch=4096,
        )
    )
    assert rank.kv / MIB == pytest.approx(182.75, rel=0.001)
