"""Boards and switches: who is joined to whom, and how many nodes a switch takes."""

from itertools import combinations

import pytest

from corral.catalog.boards import board, known_boards
from corral.catalog.devices import device
from corral.catalog.links import is_link, link
from corral.catalog.switches import known_switches, switch
from corral.errors import BadInput


def test_the_hybrid_cube_mesh():
    """Six NVLinks a device, four neighbours each; the others are a hop away."""
    for name in ("dgx-1", "4029gp-tvrt", "nf5288m5"):
        mesh = board(name)
        for one in range(8):
            joined = [mesh.links_between(one, other) for other in range(8) if other != one]
            assert sum(joined) == 6
            assert sorted(joined) == [0, 0, 0, 1, 1, 2, 2]
        assert all(mesh.links_between(a, b) == mesh.links_between(b, a) for a, b in combinations(range(8), 2))


def test_a_full_mesh_a_switch_and_none():
    quad = board("1CATai quad")
    assert {quad.links_between(a, b) for a, b in combinations(range(4), 2)} == {2}
    assert board("nf5488m5").links_between(0, 7) is None
    assert board("dgx-2").count == len(board("dgx-2").domains[0].devices) == 16
    assert board("dgx-spark").domain_of(0) is None
    assert board("dgx-spark").links_between(0, 0) == 0


@pytest.mark.parametrize("name", known_boards())
def test_a_board_is_consistent(name):
    spec = board(name)
    places = [place for domain in spec.domains for place in domain.devices]
    assert len(places) == len(set(places))
    assert all(0 <= place < spec.count for place in places)
    assert all(device(each).id == each for each in spec.devices)
    assert is_link(spec.host)
    assert all(link(each).scope == "node" for each in spec.fabric)
    for domain in spec.domains:
        assert link(domain.link).scope == "device"
        for one, other, count in domain.pairs:
            assert {one, other} <= set(domain.devices)
            assert one != other
            assert 1 <= count <= 6
    assert (spec.price_low or 0) <= (spec.price_high or spec.price_low or 0)
    assert spec.power_supply is None or 20 < spec.power_supply <= 12_000


def test_switches_of_the_eight_node_clusters():
    """Eight nodes at 200G on a CRS804; at 100G on two ports of a CRS812, at 200G six."""
    assert switch("CRS804 DDQ").nodes_at(25e9) == 8
    assert switch("crs812").nodes_at(25e9) == 6
    assert switch("crs812").ports[0].offered(12.5e9) == 8
    assert switch("crs326").nodes_at(1.25e9) == 32
    assert switch("crs326").nodes_at(12.5e9) == 0


@pytest.mark.parametrize("name", known_switches())
def test_a_switch_is_plausible(name):
    spec = switch(name)
    for ports in spec.ports:
        assert 1e6 <= ports.speed <= 100e9
        for count, each in ports.breakouts:
            assert count * each <= ports.speed
    assert spec.power_max is None or 3 <= spec.power_max <= 2000
    assert spec.nodes_at(0) >= spec.nodes_at(1.25e9) >= spec.nodes_at(12.5e9)


def test_unknown_ones_are_told():
    with pytest.raises(BadInput, match="none of the boards"):
        board("dgx-17")
    with pytest.raises(BadInput, match=r"near it are .*crs804"):
        switch("crs805")
