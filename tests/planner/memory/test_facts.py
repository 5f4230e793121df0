import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corral.engines.base import Layout
from corral.planner.memory.demand import node_room
from corral.planner.memory.facts import facts_memory, kv_share
from corral.planner.memory.shares import stage_layers
from corral.units import GIB
from planner.made import model, node

ENGINES = st.sampled_from(["vllm", "llamacpp"])
ACCELERATORS = st.sampled_from(["cuda", "rocm", "metal", "cpu"])
POWERS = st.sampled_from([1, 2, 4, 8, 16])


@st.composite
def models(draw):
    kv_heads = draw(POWERS)
    weights = draw(st.integers(10**6, 10**12))
    embedding = draw(st.integers(0, weights // 4))
    return model(
        layers=draw(st.integers(16, 128)),
        kv_heads=kv_heads,
        heads=kv_heads * draw(POWERS),
        weights_bytes=weights,
        parameters=max(1, weights // draw(st.sampled_from([1, 2, 4]))),
        hidden=draw(st.sampled_from([256, 4096])),
        head_dim=16,
        embedding_bytes=embedding,
        head_bytes=draw(st.sampled_from([0, embedding])),
    )


def memory(of, layout, *, engine="vllm", accelerator="cuda", context=4096, concurrency=4, dtype=None):
    return facts_memory(
        of, layout, engine=engine, accelerator=accelerator, context=context, concurrency=concurrency, dtype=dtype
    )


@given(models(), POWERS, st.integers(1, 16))
def test_the_ranks_hold_the_model_once_and_the_named_replicas(of, tp, pp):
    layout = Layout(tp=tp, pp=pp)
    held = sum(rank.weights for rank in memory(of, layout))
    tied = 0 if of.head_bytes or pp == 1 else of.embedding_bytes
    projections = of.hidden * 2 * of.kv_heads * of.head_dim * of.layers * of.weights_bytes // of.parameters
    replicas = projections * max(0, tp - of.kv_heads) // min(tp, of.kv_heads)
    rounding = 4 * layout.ranks * max(1, tp // of.kv_heads)
    assert held == pytest.approx(of.weights_bytes + tied + replicas, abs=rounding)
    if tp <= of.kv_heads and not tied:
        assert 0 <= held - of.weights_bytes <= rounding


@given(models(), POWERS, st.integers(1, 16), ENGINES, ACCELERATORS, st.integers(1, 10**6), st.integers(1, 64))
def test_more_context_or_requests_never_need_less(of, tp, pp, engine, accelerator, context, concurrency):
    def most(context, concurrency):
        ranks = memory(
            of, Layout(tp=tp, pp=pp), engine=engine, accelerator=accelerator, context=context, concurrency=concurrency
        )
        return max(rank.total for rank in ranks)

    here = most(context, concurrency)
    assert most(context + 1, concurrency) >= here
    assert most(context, concurrency + 1) >= here


@given(models(), st.integers(1, 16), ENGINES)
def test_a_finer_split_never_needs_more_on_a_rank(of, pp, engine):
    assume(of.kv_heads >= 2)
    whole, halves = memory(of, Layout(pp=pp), engine=engine), memory(of, Layout(tp=2, pp=pp), engine=engine)
    assert max(rank.total for rank in halves) <= max(rank.total for rank in whole)


@given(st.integers(1, 500), st.integers(1, 32))
def test_stages_share_the_layers_evenly_and_spare_the_last(layers, stages):
    assume(stages <= layers)
    counts = stage_layers(layers, stages)
    assert sum(counts) == layers
    assert max(counts) - min(counts) <= 1
    assert counts[-1] == min(counts)


def test_the_cache_of_a_known_model_is_what_its_arithmetic_says():
    """Qwen3-32B: 2 x 64 layers x 8 heads x 128 values x 2 bytes = 256 KiB a token."""
    (rank,) = memory(model(), Layout(), context=40960, concurrency=1)
    assert rank.kv == 40960 * 256 * 1024 == 10 * GIB


def test_kv_heads_are_split_no_further_than_one_a_rank():
    of = model(heads=64, kv_heads=4)
    assert [kv_share(of, Layout(tp=tp)) for tp in (1, 2, 4, 8)] == [1, 2, 4, 4]
    four, eight = memory(of, Layout(tp=4)), memory(of, Layout(tp=8))
    assert four[0].kv == eight[0].kv


def test_the_number_format_of_the_cache():
    full = model(quantization="float32")
    assert memory(full, Layout())[0].kv == 2 * memory(model(), Layout())[0].kv
    assert memory(full, Layout(), engine="llamacpp")[0].kv == memory(model(), Layout())[0].kv
    assert memory(full, Layout(), dtype="bfloat16")[0].kv == memory(model(), Layout())[0].kv


def test_a_device_is_never_planned_full():
    assert node_room(node(gib=100), "vllm") == pytest.approx(0.9 * 0.985 * 100 * GIB, abs=1)
    assert node_room(node(gib=100), "llamacpp") == pytest.approx(0.97 * 0.985 * 100 * GIB, abs=1)
    shared = node(gib=100).model_copy(update={"unified": True})
    assert node_room(shared, "vllm") == 90 * GIB
    assert node_room(node(gib=100, accelerator="cpu"), "vllm") == 100 * GIB
