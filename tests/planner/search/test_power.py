import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.cluster.values import Circuit
from corral.planner.circuits import circuit_loads, circuit_warnings
from corral.planner.plan import NodePower, Power
from corral.planner.power import SUPPLY_EFFICIENCY, node_power
from corral.planner.search.degrees import parse_degrees
from corral.planner.search.fleet import fleet_of
from planner.search.made_clusters import card, cluster, equal, node, planned


def machine(*cards, **more):
    return fleet_of(cluster(node(1, *cards, **more))).machines[0]


def test_a_node_draws_its_devices_and_the_rest_of_it_through_its_supply():
    power = node_power(machine(card("a100-pcie-80", 2), power_base=200.0), 2, None)
    assert power.prefill == pytest.approx((2 * 300 + 200) / SUPPLY_EFFICIENCY)
    assert power.idle < power.decode <= power.prefill


def test_devices_without_a_rank_stay_idle():
    one, two = (node_power(machine(card("a100-pcie-80", 2), power_base=200.0), used, None) for used in (1, 2))
    assert one.idle == two.idle
    assert one.prefill < two.prefill


def test_the_file_s_limit_and_a_lower_one_cap_every_phase():
    limited = machine(card("a100-pcie-80", 2, power_limit=250.0), power_base=200.0)
    assert node_power(limited, 2, None).prefill == pytest.approx(700 / SUPPLY_EFFICIENCY)
    assert node_power(limited, 2, None, 100.0).most <= 400 / SUPPLY_EFFICIENCY + 1e-6


def test_a_plan_s_watts_are_those_of_its_nodes_and_switches():
    found = planned(equal("gb10", 4), "llama-3.1-70b", wishes={"layout": parse_degrees("tp2")})
    power = found.candidates[0].power
    assert power.decode == pytest.approx(sum(one.decode for one in power.nodes) + power.other)
    assert [one.decode > one.idle for one in power.nodes] == [True, True, False, False]


def test_energy_for_tokens_is_watts_by_rate():
    found = planned(equal("gb10", 1), "llama-3.1-8b", prompt=1, output=1000)
    best = found.candidates[0]
    generating = best.power.decode / best.speed.output.value * 1000 / 3600
    assert best.power.wh_per_1000 == pytest.approx(generating, rel=0.02)


@given(st.lists(st.floats(1, 5000), min_size=1, max_size=5), st.floats(100, 240), st.floats(5, 100))
def test_a_breaker_carries_what_its_nodes_draw_and_80_per_cent_for_hours(watts, volts, amps):
    nodes = tuple(NodePower(node=f"n{at}", idle=0, prefill=one, decode=one / 2) for at, one in enumerate(watts))
    power = Power(nodes=nodes, idle=0, prefill=sum(watts), decode=sum(watts) / 2, wh_per_1000=1)
    circuit = Circuit(name="wall", volts=volts, amps=amps, nodes=tuple(one.node for one in nodes))
    (load,) = circuit_loads([circuit], power)
    assert load.watts == pytest.approx(sum(watts))
    assert load.amps == pytest.approx(load.watts / volts)
    assert load.continuous == pytest.approx(0.8 * volts * amps)
    assert bool(circuit_warnings([load])) == (sum(watts) > load.continuous)
    assert any("trips" in sentence for sentence in circuit_warnings([load])) == (load.watts > volts * amps)
