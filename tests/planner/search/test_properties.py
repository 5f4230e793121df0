"""What must hold for any cluster and any work, tried on generated ones."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from corral.models.known import architecture
from corral.planner.memory import room
from corral.planner.search.find import find
from corral.planner.search.fleet import fleet_of
from corral.planner.search.offers import Offer
from planner.search.made_clusters import KINDS, asked, card, cluster, equal, node, planned

MODELS = st.sampled_from(["llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "gpt-oss-120b", "qwen3-235b-a22b"])
NVIDIA = [name for name, kind in KINDS.items() if kind["vendor"] == "nvidia"]
LINKS = st.sampled_from(["roce-200g", "roce-100g", "tcp-100g", "tcp-10g", "tcp-1g"])
TARGETS = st.sampled_from(["speed", "throughput", "watts"])
INT4 = Offer("vllm", "awq-int4", "auto", 4.16, frozenset(KINDS))


@st.composite
def nodes(draw, most=4):
    kinds = draw(st.lists(st.tuples(st.sampled_from(NVIDIA), st.sampled_from([1, 2, 4])), min_size=1, max_size=most))
    return [node(number, card(kind, count)) for number, (kind, count) in enumerate(kinds, 1)]


def best(where, model, target):
    found = planned(where, model, target=target, wishes={"top": 1})
    return found.candidates[0] if found.candidates else None


def worth(candidate, target):
    return {
        "speed": 1 / (candidate.speed.ttft.value + 256 / candidate.speed.decode.value),
        "throughput": candidate.speed.output.value,
        "watts": -candidate.power.wh_per_1000,
    }[target]


@settings(max_examples=40, deadline=None)
@given(nodes(), st.sampled_from(NVIDIA), MODELS, LINKS, st.sampled_from(["speed", "throughput"]))
def test_one_node_more_never_makes_the_best_plan_worse(some, kind, model, link, target):
    before = best(cluster(*some, kind=link), model, target)
    after = best(cluster(*some, node(99, card(kind)), kind=link), model, target)
    if before is not None:
        assert worth(after, target) >= worth(before, target) * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(nodes(), MODELS, st.floats(0.05, 1.0), st.floats(1.0, 20.0))
def test_a_slower_link_never_makes_any_layout_faster(some, model, narrower, later):
    assume(len(some) > 1)
    where = cluster(*some)
    fast, question = fleet_of(where), asked(model)
    spec = next(iter(fast.links.values()))
    slow_spec = spec.model_copy(update={"bandwidth": spec.bandwidth * narrower, "latency": spec.latency * later})
    slow = replace(fast, links=dict.fromkeys(fast.links, slow_spec))
    before = {name(one): one for one in find(question, fast, [INT4]).weighed}
    for one in find(question, slow, [INT4]).weighed:
        if name(one) in before:
            assert one.speed.decode.value <= before[name(one)].speed.decode.value * (1 + 1e-9)


def name(one):
    return str(one.trial.degrees), tuple(machine.name for machine in one.trial.shape.machines)


@settings(max_examples=40, deadline=None)
@given(nodes(), MODELS, LINKS, st.integers(1, 8), TARGETS)
def test_no_rank_holds_more_than_its_device_and_each_device_has_one_rank(some, model, link, concurrency, target):
    where = cluster(*some, kind=link)
    found = planned(where, model, concurrency=concurrency, target=target, wishes={"top": 4})
    fleet = fleet_of(where)
    domains = {m.name: list(m.domains) for m in fleet.machines}
    for candidate in found.candidates:
        seats = [(rank.node, rank.device) for rank in candidate.ranks]
        assert len(seats) == len(set(seats)) == candidate.devices == candidate.tp * candidate.pp * candidate.dp
        assert [rank.rank for rank in candidate.ranks] == list(range(len(seats)))
        for rank in candidate.ranks:
            assert rank.total <= rank.usable
            device = next(d for d in domains[rank.node] if d.first <= rank.device < d.first + d.count).device
            assert rank.usable <= room(device, candidate.engine)
        assert sum(candidate.layers) == architecture(model).layers


@settings(max_examples=30, deadline=None)
@given(nodes(), MODELS, TARGETS)
def test_candidates_stand_in_the_order_of_the_target(some, model, target):
    found = planned(cluster(*some), model, target=target, wishes={"top": 8})
    if target != "watts":  # a plan's energy counts idle nodes too, the ranking those that work
        values = [worth(candidate, target) for candidate in found.candidates]
        assert values == sorted(values, reverse=True)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.sampled_from([1024, 4096, 16384]), st.integers(1, 16))
def test_more_context_never_fits_where_less_did_not(count, context, concurrency):
    where = equal("rtx3090", count)
    less = planned(where, "qwen3-30b-a3b", context=context, prompt=512, concurrency=concurrency)
    more = planned(where, "qwen3-30b-a3b", context=context * 2, prompt=512, concurrency=concurrency)
    assert not (more.candidates and not less.candidates)
