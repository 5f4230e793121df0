from corral.cluster.values import Link
from corral.planner.search.fleet import fleet_of
from corral.planner.search.groups import copies, groups
from corral.planner.search.replicas import count_of_replicas, seats_of_replicas
from corral.planner.search.shapes import shapes
from planner.search.made_clusters import card, cluster, equal, node

POWERS = (1, 2, 4, 8, 16)


def all_shapes(fleet, degrees=POWERS, layers=64):
    return [shape for group in groups(fleet) for shape in shapes(fleet, group, degrees, layers)]


def places(shape):
    return [(machine.name, device) for stage in shape.stages for machine, devices in stage for device in devices]


def test_equal_machines_stand_for_each_other_so_sixteen_nodes_make_sixteen_groups():
    assert [len(group) for group in groups(fleet_of(equal("h100-sxm", 16, devices=8)))] == list(range(1, 17))


def test_machines_that_differ_or_are_joined_otherwise_do_not():
    mixed = fleet_of(cluster(node(1, card("rtx3090")), node(2, card("rtx3090")), node(3, card("rtx4090"))))
    assert len(set(mixed.kinds)) == 2
    pair = Link(between=("n1", "n2"), kind="roce-200g")
    chain = fleet_of(
        cluster(*(node(n, card("gb10")) for n in (1, 2, 3)), links=[pair, Link(between=("n2", "n3"), kind="roce-200g")])
    )
    assert chain.kinds[0] == chain.kinds[2] != chain.kinds[1]


def test_every_rank_has_a_device_of_its_own():
    for shape in all_shapes(fleet_of(equal("a100-pcie-80", 4, devices=2))):
        taken = places(shape)
        assert len(taken) == shape.tp * shape.pp == len(set(taken))


def test_a_set_of_machines_is_used_only_for_what_fewer_could_not_hold():
    for shape in all_shapes(fleet_of(equal("a100-pcie-80", 4, devices=2))):
        assert shape.tp * shape.pp > 2 * (len(shape.machines) - 1)


def test_two_boards_in_one_machine_are_two_domains_that_pcie_joins():
    fleet = fleet_of(cluster(node(1, card("v100-sxm2-16", 4), card("v100-sxm2-16", 4))))
    by_degrees = {(shape.tp, shape.pp): shape for shape in all_shapes(fleet)}
    inside, over, wide = by_degrees[4, 1], by_degrees[4, 2], by_degrees[8, 1]
    assert (inside.islands, inside.inner.id, inside.outer) == (1, "nvlink2", None)
    assert (over.islands, over.inner.id, over.outer.id) == (2, "nvlink2", "pcie3")
    assert (wide.inner.id, wide.outer) == ("pcie3", None)


def test_one_device_alone_needs_no_link():
    (shape,) = all_shapes(fleet_of(equal("gb10", 1)))
    assert (shape.inner, shape.outer, shape.islands) == (None, None, 1)


def test_a_tensor_parallel_group_over_machines_takes_as_many_devices_of_each():
    fleet = fleet_of(equal("a100-pcie-80", 4, devices=2, kind="tcp-10g"))
    wide = next(shape for shape in all_shapes(fleet) if (shape.tp, shape.pp) == (8, 1))
    assert [len(devices) for stage in wide.stages for _, devices in stage] == [2, 2, 2, 2]
    assert (wide.inner.id, wide.outer.id) == ("pcie4", "tcp-10g")


def test_a_pipeline_over_cables_follows_them():
    links = [Link(between=("n1", "n3"), kind="roce-200g"), Link(between=("n3", "n2"), kind="roce-200g")]
    fleet = fleet_of(cluster(*(node(n, card("gb10")) for n in (1, 2, 3)), links=links))
    three = next(shape for shape in all_shapes(fleet, (1,)) if shape.pp == 3)
    assert [name for name, _ in places(three)] in (["n1", "n3", "n2"], ["n2", "n3", "n1"])
    assert not [shape for shape in all_shapes(fleet, (3,)) if shape.tp == 3]  # some pair has no link


def test_machines_of_different_makers_are_not_put_together():
    fleet = fleet_of(cluster(node(1, card("gb10")), node(2, card("m4-pro"))))
    assert {len(group) for group in groups(fleet)} == {1}


def test_replicas_stand_on_devices_of_their_own():
    fleet = fleet_of(equal("a100-pcie-80", 4, devices=2))
    for shape in all_shapes(fleet):
        seats = seats_of_replicas(fleet, shape)
        taken = [(m.name, d) for stages in seats for stage in stages for m, devices in stage for d in devices]
        assert len(taken) == len(set(taken)) == len(seats) * shape.tp * shape.pp
        assert len(seats) == count_of_replicas(fleet, shape)
        assert seats[0] == shape.stages


def test_replicas_of_groups_are_disjoint():
    fleet = fleet_of(equal("gb10", 7))
    pairs = copies(fleet, fleet.machines[:2])
    assert len(pairs) == 3
    assert len({machine.name for group in pairs for machine in group}) == 6
