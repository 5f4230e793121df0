"""What a prediction promises: terms that add up, ranges that hold the value, and physics' directions."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.catalog.devices import device
from corral.catalog.links import link
from corral.errors import BadInput
from corral.models.known import architecture
from corral.planner.speed.anatomy import anatomy
from corral.planner.speed.load import chunk_tokens
from corral.planner.speed.predict import predict
from corral.planner.speed.quantities import fabric
from corral.planner.speed.values import Speculation

NAMES = ["llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-120b", "qwen3.5-27b", "deepseek-r1", "nemotron-3-nano-30b-a3b"]
MODELS = st.sampled_from(NAMES)
ENGINES = st.sampled_from(["vllm", "sglang", "trt-llm", "llamacpp", "exllamav3", "exo", "an-engine-nobody-knows"])
DEVICES = st.sampled_from(["gb10", "h100-sxm", "rtx3090", "rtx5090", "m2-ultra", "strix-halo", "mi50-32", "p40", "pi5"])
FORMATS = st.sampled_from(["bf16", "fp8", "nvfp4", "mxfp4", "awq-int4", "q4_k_m", "q8_0", ""])
STREAMS = st.integers(1, 200)
steady = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_terms_add_up_to_the_step(case):
    speed = predict(case())
    assert sum(t.seconds for t in speed.terms if t.phase == "decode") == pytest.approx(1 / speed.decode.value)


@steady
@given(model=MODELS, engine=ENGINES, on=DEVICES, weights=FORMATS, streams=STREAMS)
def test_every_value_is_positive_and_in_its_range(case, model, engine, on, weights, streams):
    speed = predict(case(model, on, engine=engine, weights=weights, concurrency=streams))
    for made in (speed.decode, speed.prefill, speed.ttft, speed.tpot, speed.output):
        assert 0 < made.low <= made.value <= made.high
        assert made.basis
    assert speed.tpot.value == pytest.approx(1 / speed.decode.value)
    assert all(term.seconds > 0 for term in speed.terms)


@steady
@given(model=MODELS, engine=ENGINES, on=DEVICES, weights=FORMATS, more=st.floats(1.01, 4), streams=STREAMS)
def test_more_bandwidth_is_never_slower(case, model, engine, on, weights, more, streams):
    known = device(on)
    faster = known.model_copy(update={"bandwidth": known.bandwidth * more})
    slow = predict(case(model, on, engine=engine, weights=weights, concurrency=streams))
    fast = predict(case(model, engine=engine, weights=weights, concurrency=streams, device=faster))
    assert fast.decode.value >= slow.decode.value * (1 - 1e-9)
    assert fast.output.value >= slow.output.value * (1 - 1e-9)
    assert fast.prefill.value >= slow.prefill.value * (1 - 1e-9)


@steady
@given(
    model=MODELS, engine=ENGINES, on=DEVICES, weights=FORMATS, context=st.integers(0, 10**5), more=st.integers(1, 10**5)
)
def test_more_context_is_never_faster(case, model, engine, on, weights, context, more):
    short = predict(case(model, on, engine=engine, weights=weights, context=context))
    long = predict(case(model, on, engine=engine, weights=weights, context=context + more))
    assert long.decode.value <= short.decode.value * (1 + 1e-9)


@steady
@given(model=MODELS, engine=ENGINES, on=DEVICES, weights=FORMATS, streams=STREAMS, prompt=st.integers(1, 9000))
def test_more_streams_never_give_less_than_one(case, model, engine, on, weights, streams, prompt):
    load = {"engine": engine, "weights": weights, "prompt": prompt, "context": prompt}
    one = predict(case(model, on, **load))
    many = predict(case(model, on, **load, concurrency=streams))
    assert many.output.value >= one.output.value * (1 - 1e-9)


@steady
@given(model=MODELS, engine=ENGINES, degrees=st.sampled_from([{"tp": 2}, {"tp": 4}, {"pp": 2}]), streams=STREAMS)
def test_a_slower_link_of_a_kind_is_never_faster(case, split, model, engine, degrees, streams):
    nodes = next(iter(degrees.values()))
    speeds = [
        predict(case(model, "gb10", engine=engine, concurrency=streams, split=split(name, nodes=nodes, **degrees)))
        for name in ("tcp-200g", "tcp-50g", "tcp-5g", "tcp-1g")
    ]
    for fast, slow in pairwise(speeds):
        assert slow.decode.value <= fast.decode.value * (1 + 1e-9)
        assert slow.ttft.value >= fast.ttft.value * (1 - 1e-9)


def test_a_device_whose_only_run_teaches_nothing_counts_as_never_measured(case):
    """The one RTX 5090 of the table ran beside another card that its row does not name."""
    assert "nothing was measured on NVIDIA GeForce RTX 5090" in predict(case(on="rtx5090")).decode.basis


def test_a_single_stream_passes_all_stages_in_turn(case, split):
    alone = predict(case("llama-3.1-70b", "gb10"))
    staged = predict(case("llama-3.1-70b", "gb10", split=split("roce-200g", nodes=2, pp=2)))
    assert staged.decode.value < alone.decode.value


def test_a_card_that_waits_for_other_stages_clocks_higher(case, split):
    """At the same bandwidth of the link as within a card, two cards in turn are a little faster than one alone."""
    alone = predict(case("llama-3.1-70b", "a100-sxm-80"))
    staged = predict(case("llama-3.1-70b", "a100-sxm-80", split=split("nvlink", pp=2)))
    assert 1.0 < staged.decode.value / alone.decode.value < 1.15


def test_chunks_follow_each_other_through_stages_but_not_over_rpc(case, split):
    def gain(engine, prompt):
        given = {"on": "strix-halo", "engine": engine, "prompt": prompt, "context": prompt}
        staged = predict(case(**given, split=split("roce-200g", nodes=4, pp=4)))
        return staged.prefill.value / predict(case(**given)).prefill.value

    assert gain("llamacpp-rpc", 8192) <= 1.0
    assert 1.5 < gain("llamacpp", 8192) < 2.5  # four chunks at a time through four stages: 16 / 7
    assert gain("llamacpp", 2048) == pytest.approx(gain("llamacpp", 8192), rel=0.1)


def test_a_steady_load_s_first_token_does_not_wait_for_answers(case):
    """Prompts wait for prompts: how long the answers are makes little difference, as long as there is room."""
    load = {"engine": "vllm", "weights": "bf16", "on": "h100-sxm", "concurrency": 32}
    short, long = (predict(case(**load, output=output)).ttft.value for output in (128, 1024))
    assert long == pytest.approx(short, rel=0.05)


def test_sglang_s_prompts_wait_for_half_of_the_others(case):
    """It computes prompts before it decodes on: streams that begin together stay together."""
    load = {"weights": "bf16", "on": "h100-sxm", "concurrency": 64}
    together, spread = (predict(case(**load, engine=engine)).ttft.value for engine in ("sglang", "vllm"))
    assert together > 2.5 * spread


def test_wide_heads_cost_more_where_fast_attention_does_not_take_them(case):
    long = {"prompt": 65536, "context": 65536}

    def slower(engine, model):
        made = predict(case(model, "gb10", engine=engine, weights="bf16", **long))
        terms = {t.name: t.seconds for t in made.terms if t.phase == "prefill"}
        body = anatomy(architecture(model))
        return terms["attention"] / sum(c.layers * c.read(32768) * c.prefill_flops for c in body.caches)

    assert slower("vllm", "gemma-4-26b-a4b") > 3 * slower("vllm", "granite-4.1-8b")


@pytest.mark.parametrize(("on", "engine", "tokens"), [("gb10", "vllm", 8192), ("rtx3090", "vllm", 2048)])
def test_an_engine_s_chunk_follows_the_memory(case, on, engine, tokens):
    assert chunk_tokens(case(on=on, engine=engine)) == tokens
    assert chunk_tokens(case(on=on, engine=engine, chunk=4096)) == 4096


def test_pipelines_fill_with_streams(case, split):
    load = {"engine": "vllm", "weights": "fp8", "concurrency": 64, "prompt": 2048, "context": 2048}
    alone = predict(case("llama-3.1-70b", "h200-sxm", **load))
    staged = predict(case("llama-3.1-70b", "h200-sxm", **load, split=split("nvlink", pp=4)))
    assert staged.output.value > 1.5 * alone.output.value


def test_a_cached_prompt_comes_sooner(case):
    cold = predict(case(prompt=8192, context=8192))
    warm = predict(case(prompt=8192, context=8192, cached=8000))
    assert warm.ttft.value < 0.3 * cold.ttft.value
    assert warm.decode.value == cold.decode.value


def test_a_power_limit_slows_everything_but_by_less_than_it_saves(case):
    stock, limited = predict(case()), predict(case(power_limit=200.0))
    share = 200.0 / device("rtx3090").power_limit
    assert share < stock.ttft.value / limited.ttft.value < 0.95
    assert share < limited.decode.value / stock.decode.value < 0.95
    assert limited.power.value <= 200.0
    assert predict(case(power_limit=500.0)).decode.value == stock.decode.value


def test_a_draft_helps_when_accepted_and_costs_when_not(case):
    def decode(speculation=None):
        made = case("qwen3.5-27b", "rtx3090", engine="vllm", weights="awq-int4", speculation=speculation)
        return predict(made).decode.value

    assert decode(Speculation(method="mtp", length=2, acceptance=0.9)) > 1.5 * decode()
    assert decode(Speculation(method="mtp", length=2, acceptance=0.0)) < decode()


def test_nothing_alike_gives_a_wider_range(case):
    known = predict(case()).decode
    unknown = predict(case(on="arc-b580", engine="vllm")).decode
    assert unknown.high / unknown.low >= known.high / known.low
    assert "nothing" in unknown.basis


def test_too_many_requests_for_the_memory_wait(case):
    load = {"engine": "vllm", "weights": "bf16", "prompt": 16000, "context": 16000, "concurrency": 32}
    assert any("wait" in warning for warning in predict(case(**load)).warnings)


def test_an_unknown_format_is_refused(case):
    with pytest.raises(BadInput):
        predict(case(weights="marvellous"))


def test_amd_s_links_between_dies_are_no_ethernet():
    assert fabric(link("xgmi2")) == "nvlink"
