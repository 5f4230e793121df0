"""What one deployment leaves to the next: on accelerators, in main memory, between replicas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.cluster.topology import machine_of, part_of
from corral.cluster.values import Circuit, Cluster, Device, Link, Node, Ssh
from corral.errors import BadInput, DoesNotFit
from corral.launcher.ledger import Ledger
from corral.launcher.planning import place
from corral.launcher.rooms import MAIN
from corral.store.values import DeploymentRequest, Holding
from corral.units import GIB
from launcher.test_planning import CARDS, FACTS, MODEL, SPARK

CARD = CARDS.memory


def sized(gib, **changes):
    """A model whose weights take about so many GiB; what it needs beside them is small."""
    return MODEL.model_copy(update={"weights_bytes": gib * GIB, "files": (("m.gguf", gib * GIB),), **changes})


def ask(name, *nodes, **options):
    return DeploymentRequest(name=name, cluster=Cluster(nodes=nodes), context=512, concurrency=1, **options)


def put(ledger, request, model, facts=None):
    """Place a request beside what the ledger holds, and enter it; gives (node, devices) of each seat."""
    facts = facts or {node.name: FACTS for node in request.cluster.nodes}
    placed = place(request, model, facts, "x-1", ledger.others(request.name, request.public))
    ledger.take(request.name, request.public, placed.holds)
    return [(seat.node, seat.devices) for seat in placed.placement.seats]


def test_replicas_go_to_different_accelerators_and_no_further_than_these():
    ledger, rig = Ledger(), Node(name="rig", devices=(CARDS,))
    first, second, third = ask("m", rig).replicas(3)
    assert [request.name for request in (first, second, third)] == ["m", "m~2", "m~3"]
    assert {request.public for request in (first, second, third)} == {"m"}
    assert put(ledger, first, sized(2)) == [("rig", (0,))]
    assert put(ledger, second, sized(2)) == [("rig", (1,))]
    with pytest.raises(DoesNotFit, match="Other deployments hold"):
        put(ledger, third, sized(2))
    ledger.release("m")
    assert put(ledger, third, sized(2)) == [("rig", (0,))]


def test_a_small_model_goes_beside_a_large_one_where_its_memory_is_left():
    ledger, rig = Ledger(), Node(name="rig", devices=(CARDS,))
    assert put(ledger, ask("large", rig, layout="pp2"), sized(30)) == [("rig", (0,)), ("rig", (1,))]
    assert put(ledger, ask("small", rig), sized(1)) == [("rig", (0,))]
    with pytest.raises(DoesNotFit, match="Other deployments hold the rest"):
        put(ledger, ask("middle", rig), sized(18))


def test_the_emptiest_accelerators_are_offered_first():
    ledger, rig = Ledger(), Node(name="rig", devices=(CARDS,))
    ledger.take("small", "small", [Holding(machine="local", device=0, bytes=4 * GIB)])
    assert put(ledger, ask("large", rig), sized(18)) == [("rig", (1,))]


def test_vllm_shares_no_accelerator_since_it_fills_what_it_finds():
    ledger, rig = Ledger(), Node(name="rig", devices=(CARDS,))
    model = sized(2, format="safetensors", architecture="LlamaForCausalLM", quantization="bfloat16")
    ledger.take("small", "small", [Holding(machine="local", device=0, bytes=1 * GIB)])
    assert put(ledger, ask("v", rig, engine="vllm"), model) == [("rig", (1,))]
    assert ledger.holds("v") == (Holding(machine="local", device=1, bytes=CARD),)
    with pytest.raises(DoesNotFit):
        put(ledger, ask("w", rig, engine="vllm"), model)


def test_unified_memory_is_one_for_accelerator_and_machine():
    ledger, spark = Ledger(), Node(name="spark", devices=(SPARK,))
    put(ledger, ask("one", spark), sized(30))
    assert [hold.device for hold in ledger.holds("one")] == [MAIN]
    with pytest.raises(DoesNotFit, match="Other deployments hold"):
        put(ledger, ask("two", spark), sized(40))
    assert put(ledger, ask("two", spark), sized(20)) == [("spark", (0,))]


def test_what_a_loading_model_has_yet_to_take_is_not_given_to_another():
    ledger, here = Ledger(), Node(name="a")
    put(ledger, ask("one", here), sized(30))
    planned = ledger.holds("one")[0].bytes
    half = {"a": FACTS.model_copy(update={"memory_available": FACTS.memory_available - 20 * GIB})}
    ledger.seen("one", {"local": 20 * GIB})
    left = ledger.others("two", "two")["local"]
    assert left.pending == planned - 20 * GIB
    with pytest.raises(DoesNotFit):
        put(ledger, ask("two", here), sized(31), half)
    assert put(ledger, ask("two", here), sized(26), half) == [("a", ())]


def test_memory_that_looks_free_because_files_are_mapped_is_not_given_twice():
    ledger, here = Ledger(), Node(name="a")
    put(ledger, ask("one", here), sized(40))
    ledger.settle("one")
    with pytest.raises(DoesNotFit):
        put(ledger, ask("two", here), sized(40))  # though the machine says that 60 GiB are available


def test_a_bound_of_the_cluster_file_counts_where_it_is_less_than_the_machine_has():
    with pytest.raises(DoesNotFit):
        put(Ledger(), ask("m", Node(name="a", memory=8 * GIB)), sized(10))


def test_replicas_on_cpus_spread_over_nodes_and_then_share_one():
    ledger, nodes = Ledger(), (Node(name="a", address="10.0.0.1"), Node(name="b", address="10.0.0.2"))
    assert [put(ledger, request, sized(4)) for request in ask("m", *nodes).replicas(3)] == [
        [("a", ())],
        [("b", ())],
        [("a", ())],
    ]


def test_memory_of_those_that_will_have_ended_is_free_again():
    ledger, here = Ledger(), Node(name="a")
    put(ledger, ask("one", here), sized(40))
    ledger.settle("one")
    full = {"a": FACTS.model_copy(update={"memory_available": 20 * GIB})}
    held = ledger.others("two", "two", without=frozenset({"one"}))
    placed = place(ask("two", here), sized(50), full, "x-1", held)
    assert placed.holds[0].bytes > 50 * GIB


def test_what_could_not_be_ended_on_a_machine_stays_held_there():
    ledger = Ledger()
    ledger.take("m", "m", [Holding(machine=name, device=0, bytes=1) for name in ("10.0.0.1", "10.0.0.2")])
    ledger.release("m", keep=["10.0.0.2"])
    assert list(ledger.others("n", "n")) == ["10.0.0.2"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.integers(1, 3), st.sampled_from(["llamacpp", "vllm"])), min_size=1, max_size=8
    ),
    st.data(),
)
def test_no_accelerator_is_ever_planned_beyond_its_memory_and_no_two_replicas_share_one(models, data):
    ledger = Ledger()
    nodes = (Node(name="a", address="10.0.0.1", devices=(CARDS,)), Node(name="b", address="10.0.0.2", devices=(CARDS,)))
    for number, (gib, copies, engine) in enumerate(models):
        model = (
            sized(gib) if engine == "llamacpp" else sized(gib, format="safetensors", architecture="LlamaForCausalLM")
        )
        for request in ask(f"m{number}", *nodes, engine=engine).replicas(copies):
            try:
                put(ledger, request, model)
            except (DoesNotFit, BadInput):
                continue
        if number and data.draw(st.booleans()):
            ledger.release(f"m{data.draw(st.integers(0, number - 1))}")
        total, public = {}, {}
        for name in [f"m{n}{tail}" for n in range(len(models)) for tail in ("", "~2", "~3")]:
            for hold in ledger.holds(name):
                place_of = hold.machine, hold.device
                total[place_of] = total.get(place_of, 0) + hold.bytes
                assert (name.partition("~")[0], place_of) not in public
                public[name.partition("~")[0], place_of] = name
        assert all(size <= CARD for size in total.values())


def test_a_machine_is_the_same_under_whatever_name_and_another_behind_another_port():
    assert machine_of(Node(name="a")) == machine_of(Node(name="b", address="127.0.0.1")) == "local"
    one = Node(name="c", address="10.0.0.1", ssh=Ssh(port=2201))
    other = Node(name="c", address="10.0.0.1", ssh=Ssh(port=2202))
    assert machine_of(one) != machine_of(other)


def test_a_part_of_a_cluster_keeps_what_belongs_to_it():
    nodes = tuple(Node(name=name, address=f"10.0.0.{at}") for at, name in enumerate("abc", 1))
    cluster = Cluster(
        nodes=nodes,
        links=(Link(between=("a", "b", "c"), switch="s", kind="tcp-10g"), Link(between=("a", "c"), kind="tcp-1g")),
        circuits=(Circuit(name="x", volts=230, amps=16, nodes=("c",)),),
    )
    part = part_of(cluster, ["b", "a"])
    assert [node.name for node in part.nodes] == ["a", "b"]
    assert [link.between for link in part.links] == [("a", "b")]
    assert part.circuits == ()
    assert part_of(cluster, []) == cluster
    with pytest.raises(BadInput, match='no node "d"'):
        part_of(cluster, ["d"])


def test_different_cards_of_one_machine_count_as_the_smallest():
    large = Device(name="RTX 6000", vendor="nvidia", memory=48 * GIB)
    with pytest.raises(DoesNotFit):
        put(Ledger(), ask("m", Node(name="rig", devices=(CARDS, large)), layout="tp1"), sized(30))


def test_what_others_hold_elsewhere_is_no_reason():
    ledger = Ledger()
    ledger.take("far", "far", [Holding(machine="10.0.0.9", device=0, bytes=GIB)])
    with pytest.raises(DoesNotFit) as caught:
        put(ledger, ask("m", Node(name="rig", devices=(CARDS,))), sized(90))
    assert "Other deployments" not in caught.value.cause
