import re

import pytest

from corral.cluster.values import Circuit, Link, Price
from corral.errors import BadInput, DoesNotFit
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.degrees import parse_degrees
from corral.planner.search.fleet import fleet_of
from planner.search.made_clusters import asked, card, cluster, equal, node, planned


def test_what_does_not_fit_says_by_how_much_and_each_change_that_would_do():
    found = planned(equal("rtx3090", 2), "llama-3.1-70b", context=65536, prompt=512)
    assert found.candidates == ()
    assert "too little" in found.why_not
    for way in ("--context", "--quant", "more node", "a model of about"):
        assert way in found.remedy, found.remedy
    shorter = int(found.remedy.split("--context ")[1].split(",")[0].split()[0])
    assert planned(equal("rtx3090", 2), "llama-3.1-70b", context=shorter, prompt=256, output=128).candidates
    assert not planned(equal("rtx3090", 2), "llama-3.1-70b", context=shorter + 256, prompt=256, output=128).candidates


def test_more_nodes_that_are_promised_to_suffice_do():
    found = planned(equal("rtx3090", 1), "llama-3.1-70b")
    count = int(found.remedy.split(" more node")[0].split()[-1])
    assert planned(equal("rtx3090", 1 + count, kind="tcp-10g"), "llama-3.1-70b").candidates
    assert not planned(equal("rtx3090", count, kind="tcp-10g"), "llama-3.1-70b").candidates


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("tp3", "cannot be split 3 ways"),
        ("pp99", "32 layers"),
        ("tp64", "64 ways"),
        ("tp16", "needs 16 devices; the cluster has 8"),
        ("ep4", "no experts"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_with_cause_and_remedy(layout, words):
    with pytest.raises(BadInput, match=words) as caught:
        planned(equal("a100-pcie-80", 4, devices=2), wishes={"layout": parse_degrees(layout)})
    assert caught.value.remedy


def test_an_engine_that_splits_by_layers_refuses_tensors_over_machines():
    with pytest.raises(BadInput, match="by layers over machines") as caught:
        planned(equal("gb10", 2), wishes={"engine": "llamacpp", "layout": parse_degrees("tp2")})
    assert "pp2" in caught.value.remedy


def test_a_layout_is_taken_as_it_is_named():
    found = planned(equal("a100-pcie-80", 4, devices=2), wishes={"layout": parse_degrees("tp2xpp4")})
    assert {candidate.layout for candidate in found.candidates} == {"tp2xpp4"}


def test_nodes_that_no_link_joins_hold_no_layout_together():
    apart = cluster(node(1, card("gb10")), node(2, card("gb10")), node(3, card("gb10")), links=[])
    joined = Link(between=("n1", "n2"), kind="roce-200g")
    partly = apart.model_copy(update={"links": (joined,)})
    assert fleet_of(partly).link(0, 2) is None
    with pytest.raises(BadInput, match="joined by no link"):
        planned(partly, "llama-3.1-70b", wishes={"layout": parse_degrees("pp3")})


def test_a_file_without_links_is_taken_for_gigabit_ethernet_and_says_so():
    found = planned(cluster(node(1, card("gb10")), node(2, card("gb10")), links=[]))
    assert any("1 Gb/s" in sentence for sentence in found.assumptions)


def test_a_device_that_the_catalog_lacks_names_the_keys_to_give():
    strange = card("rtx3090").model_copy(update={"name": "Quantum Card 9000"})
    with pytest.raises(BadInput) as caught:
        planned(cluster(node(1, strange)))
    assert "bandwidth" in caught.value.remedy
    assert "flops" in caught.value.remedy


def test_what_the_file_says_of_such_a_device_is_enough():
    described = card("rtx3090").model_copy(
        update={"name": "Quantum Card 9000", "bandwidth": 10**12, "flops": {"fp16": 1e14}, "capability": "9.0"}
    )
    found = planned(cluster(node(1, described)))
    assert found.candidates[0].speed.decode.value > 0
    twice = described.model_copy(update={"bandwidth": 2 * 10**12})
    assert planned(cluster(node(1, twice))).candidates[0].speed.decode.value > found.candidates[0].speed.decode.value


def test_what_the_file_says_of_a_known_device_counts_for_more():
    slow = card("rtx3090", bandwidth=3 * 10**11)
    rate = planned(cluster(node(1, slow))).candidates[0].speed.decode.value
    assert rate < planned(cluster(node(1, card("rtx3090")))).candidates[0].speed.decode.value / 2


def test_a_node_left_out_takes_no_rank():
    found = planned(equal("gb10", 3), "qwen3-235b-a22b", wishes={"without": ("n2",)})
    assert all("n2" not in candidate.nodes for candidate in found.candidates)
    with pytest.raises(BadInput, match="no node 'n9'"):
        planned(equal("gb10", 3), wishes={"without": ("n9",)})


def test_a_node_without_accelerator_beside_some_takes_no_rank():
    where = cluster(node(1, card("gb10")), node(2))
    found = planned(where)
    assert [(refusal.what, refusal.why) for refusal in found.refused if "n2" in refusal.what]
    with pytest.raises(DoesNotFit, match="can take a rank"):
        planned(cluster(node(1)))


def test_a_context_beyond_the_model_s_and_a_prompt_beyond_the_context_are_refused():
    with pytest.raises(BadInput, match="up to 131072"):
        planned(equal("gb10", 1), context=200_000)
    with pytest.raises(BadInput, match="exceed the context"):
        planned(equal("gb10", 1), context=1024, prompt=1000, output=100)


def test_one_machine_is_recommended_where_the_link_is_slow():
    found = planned(equal("gb10", 3, kind="tcp-1g"), "gpt-oss-120b")
    assert len(found.candidates[0].nodes) == 1
    said = " ".join(found.advice)
    assert "Do not distribute it" in said
    assert "other 2 nodes for replicas or another model" in said


def test_a_wider_format_over_three_nodes_is_set_against_eight_bits_on_one():
    found = planned(equal("gb10", 3, kind="tcp-1g"), "llama-3.1-70b", wishes={"weights": "bf16"})
    assert len(found.candidates[0].nodes) > 1
    assert any(re.match("One node at (fp8|q8_0) is faster", sentence) for sentence in found.advice), found.advice


def test_breakers_are_watched_and_a_power_limit_that_helps_is_named():
    circuit = Circuit(name="wall", volts=120.0, amps=15.0, nodes=("n1",))
    where = cluster(node(1, card("a100-pcie-80", 4), power_base=200.0), circuits=(circuit,))
    found = planned(where, "llama-3.1-70b", wishes={"layout": parse_degrees("tp4")})
    (load,) = found.circuits
    assert load.continuous == pytest.approx(0.8 * 1800)
    assert load.watts == pytest.approx((4 * 300 + 200) / 0.92)
    assert load.headroom < 0
    limit = next(sentence for sentence in found.warnings if "power limit of" in sentence)
    watts = float(limit.split("power limit of ")[1].split(" W")[0])
    assert (4 * watts + 200) / 0.92 <= 1440 < (4 * (watts + 10) + 200) / 0.92


def test_money_follows_from_watts_and_the_price():
    where = cluster(node(1, card("rtx3090")), price_per_kwh=Price(amount=0.5, currency="EUR"))
    found = planned(where)
    power, bill = found.candidates[0].power, found.money
    assert bill.month_busy == pytest.approx(power.decode / 1000 * 730 * 0.5)
    assert bill.per_million_tokens == pytest.approx(power.wh_per_1000 * 0.5)


def test_a_power_limit_costs_speed_and_saves_watts():
    free = planned(equal("rtx3090", 1), "qwen3-14b", wishes={"why": True})
    limits = free.limits
    assert [effect.limit for effect in limits] == sorted((effect.limit for effect in limits), reverse=True)
    assert limits[-1].prefill < limits[0].prefill
    assert limits[-1].most_watts < limits[0].most_watts
    held = planned(cluster(node(1, card("rtx3090", power_limit=200.0))), "qwen3-14b")
    assert held.candidates[0].power.prefill < free.candidates[0].power.prefill


def test_what_joins_the_nodes_is_weighed_from_nvlink_to_gigabit():
    found = planned(equal("gb10", 4), "llama-3.1-70b", wishes={"why": True, "layout": parse_degrees("tp4")})
    rates = [cost.decode for cost in found.interconnect]
    assert rates == sorted(rates, reverse=True)
    assert found.interconnect[-1].communication > found.interconnect[0].communication
    assert found.interconnect[-1].best_nodes < 4


def test_devices_that_differ_share_the_layers_by_what_they_can():
    where = cluster(node(1, card("rtx4090")), node(2, card("v100-sxm2-16")))
    found = planned(where, "qwen3-32b", wishes={"engine": "llamacpp", "layout": parse_degrees("pp2")})
    assert found.candidates[0].layers[0] != found.candidates[0].layers[1]
    assert sum(found.candidates[0].layers) == 64


def test_replicas_serve_more_streams_than_one():
    where = equal("gb10", 4)
    one = planned(where, concurrency=64, wishes={"layout": parse_degrees("tp1")})
    four = planned(where, concurrency=64, wishes={"layout": parse_degrees("dp4")})
    assert four.candidates[0].speed.output.value > 1.5 * one.candidates[0].speed.output.value
    assert four.candidates[0].nodes == ("n1", "n2", "n3", "n4")


def test_experts_may_be_spread_and_attention_repeated():
    where = equal("h100-sxm", 1, devices=8)
    found = planned(where, "deepseek-v3", concurrency=64, wishes={"layout": parse_degrees("dp8xep8")})
    (candidate,) = {candidate.layout: candidate for candidate in found.candidates}.values()
    assert (candidate.dp, candidate.ep, candidate.devices) == (8, 8, 8)
    assert not candidate.launchable


def test_a_switch_that_has_too_few_ports_is_pointed_out():
    names = tuple(f"n{number}" for number in range(1, 10))
    many = cluster(
        *(node(number, card("gb10")) for number in range(1, 10)),
        links=[Link(between=names, switch="CRS804 DDQ", kind="roce-200g")],
    )
    assert any("joins 8 nodes at 200 Gb/s" in sentence for sentence in planned(many).warnings)


def test_a_plan_is_one_json_document_with_its_schema():
    found = plan(asked(), equal("gb10", 2), Wishes())
    document = found.model_dump(mode="json")
    assert document["schema"] == "corral.plan/1"
    assert type(found).model_validate(document) == found


def test_a_dozen_machines_that_all_differ_are_planned_too():
    kinds = ["rtx3090", "rtx4090", "a100-pcie-80", "gb10"]
    nodes = [
        node(number, card(kinds[number % 4], 1 + number // 4, power_limit=200.0 + number)) for number in range(1, 13)
    ]
    where = cluster(*nodes)
    assert len(set(fleet_of(where).kinds)) == 12
    found = planned(where, "llama-3.1-405b")
    assert found.candidates
    best = max(found.candidates, key=lambda one: len(one.nodes))
    assert len(set(best.nodes)) == len(best.nodes)


def test_what_is_known_of_how_the_model_was_read_is_said():
    found = plan(asked(notes=("The Hub could not be asked.",)), equal("gb10", 1), Wishes())
    assert "The Hub could not be asked." in found.warnings


def test_an_engine_without_rdma_goes_over_tcp_on_the_same_wire():
    wishes = {"engine": "llamacpp", "layout": parse_degrees("pp2")}
    roce, tcp, slow = (
        planned(equal("gb10", 2, kind=kind), "llama-3.1-70b", wishes=wishes).candidates[0]
        for kind in ("roce-200g", "tcp-200g", "tcp-1g")
    )
    assert roce.links == tcp.links == ("tcp-200g",)
    assert roce.speed.decode.value == tcp.speed.decode.value > slow.speed.decode.value
    with_rdma = planned(equal("gb10", 2), "llama-3.1-70b", wishes={"engine": "vllm", "layout": parse_degrees("pp2")})
    assert with_rdma.candidates[0].links == ("roce-200g",)


def test_a_machine_that_an_engine_does_not_run_on_takes_nothing_from_the_others():
    nvidia = cluster(node(1, card("gb10")), node(2, card("gb10")))
    alone = planned(nvidia, "llama-3.1-70b").candidates[0]
    with_mac = cluster(node(1, card("gb10")), node(2, card("gb10")), node(3, card("m4-pro")))
    best = planned(with_mac, "llama-3.1-70b").candidates[0]
    assert (best.engine, best.nodes) == (alone.engine, alone.nodes) == ("vllm", ("n1", "n2"))
