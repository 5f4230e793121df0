from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.engines.base import Layout, Seat
from corral.errors import BadInput, DoesNotFit, ExitCode
from corral.models.values import ModelFacts
from corral.planner.layout import choose, parse_layout, split_replicas
from corral.planner.memory.demand import node_room
from corral.planner.search.degrees import Degrees
from corral.planner.search.engines import launchable
from corral.units import GIB
from planner.made import model, node


def chosen(of, nodes, *, engine="vllm", layout=None, context=8192, concurrency=4):
    wanted = parse_layout(layout) if layout else None
    return choose(of, nodes, engine=engine, layout=wanted, context=context, concurrency=concurrency)


@pytest.mark.parametrize(
    ("text", "tp", "pp"), [("tp2", 2, 1), ("pp2", 1, 2), ("tp4xpp2", 4, 2), (" TP8 ", 8, 1), ("tp1xpp3", 1, 3)]
)
def test_layouts_are_read(text, tp, pp):
    assert parse_layout(text) == Layout(tp=tp, pp=pp)


@given(st.integers(1, 32), st.integers(1, 32))
def test_what_a_layout_writes_it_reads(tp, pp):
    assert parse_layout(str(Layout(tp=tp, pp=pp))) == Layout(tp=tp, pp=pp)


@pytest.mark.parametrize("text", ["", "x", "tp", "2", "tp0", "tp2pp2", "tp2x", "xpp2", "ep4", "tp-1", "tp9999xpp9999"])
def test_what_is_no_layout_is_refused(text):
    with pytest.raises(BadInput, match="is no layout"):
        parse_layout(text)


def test_one_device_is_preferred_where_it_is_enough():
    found = chosen(model(weights_bytes=16 * GIB, parameters=8 * GIB), [node(gib=80, devices=8)])
    assert (found.layout, found.seats) == (Layout(), (Seat(node="n1", devices=(0,)),))


def test_one_node_is_preferred_to_two():
    found = chosen(model(), [node("small"), node("large", devices=4)])
    assert found.layout == Layout(tp=4)
    assert found.seats == tuple(Seat(node="large", devices=(number,)) for number in range(4))


def test_tensors_are_split_within_nodes_and_layers_over_them():
    found = chosen(model(), [node("a", devices=2), node("b", devices=2)])
    assert found.layout == Layout(tp=2, pp=2)
    assert [seat.node for seat in found.seats] == ["a", "a", "b", "b"]
    assert [seat.devices for seat in found.seats] == [(0,), (1,), (0,), (1,)]


def test_llama_cpp_is_split_by_layers():
    found = chosen(model(format="gguf"), [node("a", devices=2), node("b", devices=2)], engine="llamacpp")
    assert found.layout == Layout(pp=4)


def test_a_named_layout_goes_over_the_nodes():
    tiny = model(weights_bytes=GIB, parameters=GIB, embedding_bytes=0, head_bytes=0)
    nodes = [node("a", accelerator="cpu"), node("b", accelerator="cpu")]
    for layout in ("tp2", "pp2"):
        assert chosen(tiny, nodes, layout=layout).seats == (Seat(node="a"), Seat(node="b"))
    both = chosen(tiny, nodes[:1], layout="tp2").seats
    assert both == (Seat(node="a"), Seat(node="a"))


def test_ranks_that_share_a_memory_are_added_up():
    of, cpu = model(weights_bytes=8 * GIB, parameters=4 * GIB), node("a", gib=20, accelerator="cpu")
    assert chosen(of, [cpu], layout="tp2", context=512).layout == Layout(tp=2)
    with pytest.raises(DoesNotFit, match=r"20\.0 GiB can be used"):
        chosen(of, [cpu], layout="tp2", context=16384)


def test_what_does_not_fit_says_by_how_much_and_what_would():
    with pytest.raises(DoesNotFit) as raised:
        chosen(model(), [node(gib=80)], context=32768, concurrency=8)
    assert raised.value.code == ExitCode.NO
    assert raised.value.cause == (
        "big-32b does not fit: on one device it needs 126.5 GiB on n1 (weights 60.0 GiB, KV cache 64.0 GiB, engine"
        " 2.5 GiB), where 70.9 GiB can be used: 55.6 GiB too little."
    )
    assert raised.value.remedy == (
        "It would fit with --concurrency 1, or with --context 4096, or with 1 more node like n1, or with a model of"
        " about 4.4 GiB of weights instead of 60.0 GiB."
    )
    assert chosen(model(), [node(gib=80)], context=32768, concurrency=1)
    assert chosen(model(), [node(gib=80)], context=4096, concurrency=8)
    assert chosen(model(), [node("n1", gib=80), node("n2", gib=80)], context=32768, concurrency=8)
    with pytest.raises(DoesNotFit):
        chosen(model(), [node(gib=80)], context=4096 + 256, concurrency=8)


def test_the_smaller_model_that_is_named_fits():
    with pytest.raises(DoesNotFit, match=r"about 21\.9 GiB of weights instead of 60\.0 GiB"):
        chosen(model(), [node(gib=32)], context=4096, concurrency=4)
    smaller = model(weights_bytes=int(21.8 * GIB), parameters=10 * GIB)
    assert chosen(smaller, [node(gib=32)], context=4096, concurrency=4)


def test_heads_that_cannot_be_split_are_refused_with_what_can_be():
    with pytest.raises(BadInput, match="64 attention heads and 8 KV heads; they cannot be split 3 ways") as raised:
        chosen(model(), [node(devices=4)], layout="tp3")
    assert raised.value.remedy == "Choose a tensor-parallel degree of 1, 2, 4, 8, 16, 32, 64."
    with pytest.raises(BadInput, match="they cannot make 65 pipeline stages"):
        chosen(model(), [node(devices=4)], layout="pp65")


def test_a_layout_without_devices_is_refused():
    with pytest.raises(DoesNotFit, match="tp4xpp2 needs 8 devices; the cluster has 2"):
        chosen(model(), [node(devices=2)], layout="tp4xpp2")


def test_an_empty_cluster_is_refused():
    with pytest.raises(BadInput, match="has no nodes"):
        chosen(model(), [])


NODES = st.lists(
    st.builds(
        node, st.uuids().map(str), st.integers(8, 256), st.sampled_from([1, 2, 4, 8]), st.just("cuda")
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@given(NODES, st.sampled_from(["vllm", "llamacpp"]), st.integers(512, 40960), st.integers(1, 16))
def test_whatever_is_chosen_has_a_device_for_each_rank_and_fits_there(nodes, engine, context, concurrency):
    of: ModelFacts = model()
    try:
        found = chosen(of, nodes, engine=engine, context=context, concurrency=concurrency)
    except DoesNotFit as error:
        refusal = error
    else:
        by_name = {one.name: one for one in nodes}
        assert len(found.seats) == len(set(found.seats)) == found.layout.ranks == len(found.memory)
        for seat, rank in zip(found.seats, found.memory, strict=True):
            assert seat.devices[0] < by_name[seat.node].devices
            assert rank.total <= node_room(by_name[seat.node], engine)
        return
    assert refusal.remedy.startswith("It would fit with ")


@pytest.mark.parametrize(
    ("text", "layout", "replicas"),
    [
        ("tp2xdp4", "tp2", 4),
        ("dp2", "", 2),
        ("tp4xpp2xdp3", "tp4xpp2", 3),
        ("tp2", "tp2", 1),
        ("", "", 1),
        ("nonsense", "nonsense", 1),
    ],
)
def test_data_parallelism_is_so_many_replicas_of_the_rest(text, layout, replicas):
    assert split_replicas(text) == (layout, replicas)


def test_no_replica_is_no_layout():
    with pytest.raises(BadInput, match="'dp0' is no layout"):
        split_replicas("dp0")


def test_a_layout_with_replicas_can_be_launched_unless_they_share_experts():
    shape = SimpleNamespace(devices=())
    assert not launchable("vllm", shape, Degrees(tp=2, dp=4))
    assert "expert parallelism" in launchable("vllm", shape, Degrees(tp=2, dp=4, ep=8))
