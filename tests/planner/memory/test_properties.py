"""What must hold of memory whatever the model: nothing is lost, more never needs less, the largest is the largest."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corral.catalog.devices import DeviceSpec
from corral.models.parameters import parameters
from corral.planner.formats import weight_format
from corral.planner.memory import (
    MemoryCase,
    fits,
    largest_context,
    most_requests,
    proportional_layers,
    rank_memory,
    room,
    stage_memory,
)
from corral.planner.speed.values import Split
from corral.units import GIB
from planner.memory import made_gguf as made

POWERS = st.sampled_from([1, 2, 4, 8, 16])
ENGINES = st.sampled_from(["vllm", "sglang", "llamacpp"])
WEIGHTS = st.sampled_from(["bf16", "fp8", "q4_k_m", "awq-int4", "mxfp4", "fp32"])
CACHES = st.sampled_from(["auto", "f16", "fp8", "q8_0"])
CONTEXTS = st.integers(1, 131072)


def device(gib=24, kind="consumer", *, unified=False):
    return DeviceSpec(
        id=kind, name=kind, vendor="nvidia", kind=kind, generation="", memory=int(gib * GIB), usable=int(gib * GIB),
        unified=unified, bandwidth=1e12, flops={}, matrix=frozenset(), power_limit=1,
    )  # fmt: skip


@st.composite
def models(draw):
    layers, hidden = draw(st.integers(16, 64)), draw(st.sampled_from([256, 2048]))
    kv_heads = draw(POWERS)
    heads = kv_heads * draw(st.sampled_from([1, 4]))
    common = {"layers": layers, "hidden": hidden, "vocabulary": draw(st.integers(1000, 200000))}
    plain = common | {"heads": heads, "kv_heads": kv_heads, "head_dim": 64}
    match draw(st.sampled_from(["dense", "sliding", "moe", "latent", "mamba2", "delta"])):
        case "dense":
            return made.dense("dense", width=3 * hidden, tied=draw(st.booleans()), **plain)
        case "sliding":
            return made.sliding("sliding", width=3 * hidden, window=draw(st.sampled_from([128, 1024])), **plain)
        case "moe":
            return made.moe("moe", experts=draw(st.sampled_from([16, 60, 128])), active=4, width=256, **plain)
        case "latent":
            return made.latent(
                "latent", heads=16, q_rank=128, kv_rank=256, rope=64, nope=64, value=64, experts=32, active=4,
                width=256, dense_width=1024, **common,
            )  # fmt: skip
        case "mamba2":
            return made.hybrid("mamba2", width=hidden, state=64, ssm_heads=16, **plain)
        case _:
            return made.delta(
                "delta", experts=16, active=4, width=128, key_heads=16, value_heads=32, **plain
            )  # fmt: skip


@st.composite
def cases(draw, engines=ENGINES, tp=POWERS):
    pp = draw(st.sampled_from([1, 2, 3]))
    chosen = device(draw(st.sampled_from([24, 80, 192])), draw(st.sampled_from(["consumer", "cpu"])))
    return MemoryCase(
        model=draw(models()),
        split=Split(tp=draw(tp), pp=pp, dp=draw(st.sampled_from([1, 2]))),
        engine=draw(engines),
        devices=(chosen,) * pp,
        weights=draw(WEIGHTS),
        kv=draw(CACHES),
        context=draw(CONTEXTS),
        concurrency=draw(st.integers(1, 64)),
        batch=draw(st.sampled_from([512, 8192])),
        draft=draw(st.booleans()),
    )


def fullest(case):
    return max(stage.total for stage in stage_memory(case))


@given(cases())
def test_ranks_hold_the_model_and_what_is_held_twice(case):
    """Of classes that are split, the ranks of a replica hold the model's; of others at least as much, none less."""
    counts = dict(parameters(case.model))
    price = weight_format(case.weights, gguf=case.family == "llamacpp")
    held = {}
    for stage in stage_memory(case):
        for tensor, size in stage.by_class.items():
            held[tensor] = held.get(tensor, 0) + size * case.split.tp
        held["embedding"] = held.get("embedding", 0) + stage.host * case.split.tp
    rounding = 64 * case.split.tp * case.split.pp
    for tensor, count in counts.items():
        whole = count * price.bits(tensor) / 8
        assert held[tensor] >= whole - 1
        if tensor in {"mlp", "shared", "recurrent"} or (case.split.tp == 1 and tensor not in {"embedding", "head"}):
            assert held[tensor] == pytest.approx(whole, abs=rounding)
        elif tensor in {"norm", "router"}:
            assert held[tensor] <= whole * case.split.tp + rounding


@given(cases(), st.integers(1, 5000), st.integers(1, 8))
def test_more_context_or_requests_never_need_less(case, tokens, requests):
    longer, busier = (
        replace(case, context=case.context + tokens),
        replace(case, concurrency=case.concurrency + requests),
    )
    assert fullest(longer) >= fullest(case)
    assert fullest(busier) >= fullest(case)


@given(cases(tp=st.sampled_from([1, 2, 4])))
def test_a_finer_split_never_needs_more_on_a_rank(case):
    finer = replace(case, split=case.split.model_copy(update={"tp": case.split.tp * 2}))
    ours, theirs = stage_memory(case), stage_memory(finer)
    for wide, fine in zip(ours, theirs, strict=True):
        # The vocabulary is padded, and the library that joins the ranks takes its buffers.
        assert fine.weights <= wide.weights + 64 * case.model.hidden * 4
        assert fine.activations <= wide.activations
        if case.devices[0].kind != "cpu":
            assert fine.cache <= wide.cache


@given(cases())
def test_replicas_share_the_requests_and_nothing_else(case):
    one = replace(case, split=case.split.model_copy(update={"dp": 1}), concurrency=case.requests)
    assert stage_memory(one) == stage_memory(replace(case, concurrency=case.requests * case.split.dp))


@given(cases())
def test_the_largest_context_is_the_largest(case):
    found = largest_context(case)
    step = 256 if case.engine == "llamacpp" else 16
    assert 0 <= found <= case.model.context
    if found:
        assert fits(replace(case, context=found))
    if found < case.model.context:
        assert not fits(replace(case, context=min(found + step, case.model.context)))


@given(cases())
def test_the_most_requests_are_the_most(case):
    found = most_requests(case, limit=512)
    assert not found or fits(replace(case, concurrency=found))
    assert found == 512 or not fits(replace(case, concurrency=found + 1))


@given(st.integers(1, 200), st.lists(st.integers(1, 10**12), min_size=1, max_size=16))
def test_layers_are_shared_out_in_proportion(layers, capacities):
    assume(layers >= len(capacities))
    shares = proportional_layers(layers, capacities)
    assert sum(shares) == layers
    assert min(shares) >= 1
    for one, other in zip(shares, capacities, strict=True):
        assert one <= 2 + (layers - len(capacities)) * other / sum(capacities)


@pytest.mark.parametrize("capacities", [[1, 0], [1, 1, 1], [5, -1]])
def test_what_cannot_be_shared_out_is_refused(capacities):
    with pytest.raises(ValueError, match="cannot be shared"):
        proportional_layers(2, capacities)


def test_ranks_stand_replica_by_replica_and_stage_by_stage():
    model = made.dense("d", layers=5, hidden=256, heads=4, kv_heads=4, head_dim=64, width=512, vocabulary=1000)
    ranks = rank_memory(
        model, Split(tp=2, pp=2, dp=2), engine="vllm", device=device(), weights="bf16", context=100, concurrency=3
    )
    assert len(ranks) == 8
    assert ranks[:4] == ranks[4:]
    assert ranks[0] == ranks[1] != ranks[2] == ranks[3]
    assert ranks[0].by_class.keys() == {"embedding", "attention", "mlp", "norm"}
    assert ranks[2].by_class.keys() == {"head", "attention", "mlp", "norm"}
    assert ranks[0].by_class["mlp"] == pytest.approx(ranks[2].by_class["mlp"] * 3 / 2)


def test_each_stage_is_asked_of_its_own_device():
    model = made.dense("d", layers=8, hidden=2048, heads=16, kv_heads=4, head_dim=128, width=16384, vocabulary=32000)
    case = MemoryCase(
        model=model, split=Split(pp=2), engine="vllm", devices=(device(3), device(1.5)), weights="bf16", context=2048,
        concurrency=1, layers=(7, 1),
    )  # fmt: skip
    assert fits(case)
    assert not fits(replace(case, layers=(4, 4)))
    assert not fits(replace(case, devices=tuple(reversed(case.devices))))


def test_exact_bytes_replace_the_nominal_ones():
    model = made.dense("d", layers=4, hidden=256, heads=4, kv_heads=4, head_dim=64, width=512, vocabulary=1000)
    exact = {"mlp": 10**6, "attention": 2 * 10**6}
    (rank,) = rank_memory(
        model, Split(), engine="vllm", device=device(), weights="bf16", weights_by_class=exact, context=1, concurrency=1
    )
    assert (rank.by_class["mlp"], rank.by_class["attention"]) == (10**6, 2 * 10**6)
    assert rank.by_class["embedding"] == 1024 * 256 * 2  # padded to a multiple of 64


def test_experts_are_held_whole_or_as_slices():
    model = made.moe(
        "m", layers=2, hidden=256, heads=4, kv_heads=4, head_dim=64, experts=60, active=4, width=128, vocabulary=1000
    )

    def experts(**split):
        first = rank_memory(
            model, Split(**split), engine="vllm", device=device(), weights="bf16", context=1, concurrency=1
        )[0]
        return first.by_class["experts"] // (2 * 3 * 256 * 128 * 2)

    assert [experts(), experts(tp=4), experts(tp=4, ep=4), experts(tp=8, ep=8), experts(tp=4, dp=2, ep=8)] == [
        60, 15, 15, 8, 8,
    ]  # fmt: skip


def test_the_embedding_lies_in_the_node_s_memory_where_llama_cpp_has_a_card_of_its_own():
    model = made.dense(
        "d", layers=2, hidden=256, heads=4, kv_heads=4, head_dim=64, width=512, vocabulary=4096, tied=True
    )
    table = 4096 * 256 * 2

    def rank(spec):
        return rank_memory(model, Split(), engine="llamacpp", device=spec, weights="f16", context=1, concurrency=1)[0]

    assert (rank(device()).host, rank(device()).by_class["head"]) == (table, table)
    assert "embedding" not in rank(device()).by_class
    for shared in (device(unified=True), device(kind="cpu")):
        assert (rank(shared).host, rank(shared).by_class["embedding"]) == (0, table)
        assert "head" not in rank(shared).by_class


def test_an_engine_plans_with_a_share_of_a_device_and_never_with_more_than_is_usable():
    card = device(100)
    assert room(card, "vllm") == pytest.approx(90 * 0.985 * GIB, abs=1)
    assert room(card, "vllm", 0.5) == pytest.approx(50 * 0.985 * GIB, abs=1)
    assert room(card, "llamacpp") == pytest.approx(97 * 0.985 * GIB, abs=1)
    shared = device(100, unified=True).model_copy(update={"usable": 60 * GIB})
    assert room(shared, "vllm") == 54 * GIB
    assert room(device(100, "cpu"), "vllm") == 100 * GIB


def test_drafting_layers_are_loaded_and_cached_only_when_asked_for():
    base = made.dense("d", layers=4, hidden=256, heads=4, kv_heads=4, head_dim=64, width=512, vocabulary=1000)
    model = base.model_copy(update={"draft": base.blocks, "draft_extra": 1000})

    def rank(*, draft):
        return rank_memory(
            model, Split(), engine="vllm", device=device(), weights="bf16", context=1600, concurrency=1, draft=draft
        )[0]

    with_draft, without = rank(draft=True), rank(draft=False)
    assert with_draft.by_class["draft"] == 2 * parameters(model)["draft"]
    assert "draft" not in without.by_class
    assert with_draft.kv * 4 == without.kv * 5
