import pytest

from corral.cluster.values import Cluster, Device, EngineSetting, Link, Node
from corral.errors import BadInput, DoesNotFit
from corral.launcher.node import NodeFacts
from corral.launcher.planning import accelerator_of, engine_for, existing_environments
from corral.launcher.planning import place as placed
from corral.launcher.rooms import rooms
from corral.models.architecture import Attention, Block, Mlp, ModelArchitecture
from corral.models.known import architecture
from corral.models.parameters import parameters
from corral.models.values import ModelFacts
from corral.store.values import DeploymentRequest
from corral.units import GIB

FACTS = NodeFacts(
    cache="/root/.cache/corral",
    home="/root",
    uid=0,
    interface="eth0",
    cores=8,
    memory_total=64 * GIB,
    memory_available=60 * GIB,
    disk_free=500 * GIB,
    shm_bytes=32 * GIB,
    python="/usr/bin/python3",
    python_version="3.11.2",
    machine="x86_64",
    system="Linux",
    host_name="a",
)
MODEL = ModelFacts(
    name="small",
    path="/models/small.gguf",
    format="gguf",
    files=(("small.gguf", GIB),),
    architecture="llama",
    quantization="Q8_0",
    weights_bytes=GIB,
    parameters=10**9,
    layers=16,
    hidden=2048,
    heads=16,
    kv_heads=4,
    head_dim=128,
    context=4096,
    vocabulary=32000,
)
CARDS = Device(name="RTX 3090", vendor="nvidia", count=2, memory=24 * GIB)
SPARK = Device(name="GB10", vendor="nvidia", count=1, memory=128 * GIB, unified=True)


def request(*nodes, **options):
    return DeploymentRequest(name="small", cluster=Cluster(nodes=nodes or (Node(name="a"),)), **options)


def place(*asked):
    return placed(*asked).placement


def test_the_engine_is_the_one_that_reads_the_format_unless_named():
    assert engine_for(request(), "gguf").name == "llamacpp"
    assert engine_for(request(), "safetensors").name == "vllm"
    assert engine_for(request(engine="vllm"), "gguf").name == "vllm"


def test_without_a_wish_the_context_is_moderate_and_never_more_than_the_model_s():
    long = MODEL.model_copy(update={"context": 131072})
    assert place(request(), MODEL, {"a": FACTS}, "small-1").context == 4096
    assert place(request(), long, {"a": FACTS}, "small-1").context == 8192


def test_a_context_beyond_the_model_s_is_refused():
    with pytest.raises(BadInput, match="up to 4096 tokens, 5000"):
        place(request(context=5000), MODEL, {"a": FACTS}, "small-1")


def test_a_model_that_does_not_fit_says_by_how_much():
    tight = FACTS.model_copy(update={"memory_available": GIB})
    with pytest.raises(DoesNotFit, match=r"GiB"):
        place(request(), MODEL, {"a": tight}, "small-1")


def test_unified_memory_counts_what_is_available_and_a_card_what_it_has():
    ((cards,),) = rooms([Node(name="a", devices=(CARDS,))], {"a": FACTS}, "cuda", {}, engine="llamacpp")
    ((spark,),) = rooms([Node(name="a", devices=(SPARK,))], {"a": FACTS}, "cuda", {}, engine="llamacpp")
    assert (cards.devices, cards.device_memory) == (2, 24 * GIB)
    assert (spark.devices, spark.device_memory) == (1, 60 * GIB)


def test_a_cluster_without_accelerators_computes_on_cpus():
    assert accelerator_of(Cluster(nodes=(Node(name="a"),))) == "cpu"


def test_a_cluster_of_different_kinds_is_refused_with_their_names():
    mac = Device(name="M3 Ultra", vendor="apple", memory=512 * GIB, unified=True)
    nodes = (Node(name="a", address="10.0.0.1", devices=(CARDS,)), Node(name="b", address="10.0.0.2", devices=(mac,)))
    with pytest.raises(DoesNotFit, match="cuda, metal"):
        accelerator_of(Cluster(nodes=nodes))


def test_environments_that_the_user_named_are_taken_as_they_are():
    node = Node(name="a", engines={"vllm": EngineSetting(environment="/opt/vllm")})
    assert existing_environments(request(node), "vllm")["a"].path == "/opt/vllm"
    assert existing_environments(request(node), "llamacpp") == {}


def test_a_machine_without_the_others_accelerators_takes_no_rank():
    laptop, rig = Node(name="laptop", address="10.0.0.1"), Node(name="rig", address="10.0.0.2", devices=(CARDS,))
    placement = place(request(laptop, rig), MODEL, {"laptop": FACTS, "rig": FACTS}, "small-1")
    assert (placement.accelerator, placement.nodes) == ("cuda", ("rig",))


def test_vllm_s_cache_on_a_cpu_is_what_the_ranks_were_planned_with():
    width = Attention(heads=16, kv_heads=4, head_dim=128, value_dim=128, window=256)
    block = Block(mixer=width, feed_forward=Mlp(width=5000))
    known = ModelArchitecture(
        id="small", name="small", architecture="x", hidden=2048, vocabulary=32000, context=4096, tied=False,
        blocks=(block,), order=(0,) * 16, source="made",
    )  # fmt: skip
    count = sum(parameters(known).values())
    model = MODEL.model_copy(
        update={
            "format": "safetensors",
            "architecture": "LlamaForCausalLM",
            "quantization": "bfloat16",
            "parameters": count,
            "weights_bytes": 2 * count,
            "anatomy": known,
        }
    )
    asked = request(engine="vllm", context=4096)
    planned = place(asked, model, {"a": FACTS}, "small-1")
    # 19 blocks of 128 tokens hold a window and one batch of 2,048, and vLLM keeps one to itself.
    assert planned.kv_bytes == (4 * 19 + 1) * 128 * 2 * 4 * 128 * 2 * 16
    unknown = model.model_copy(update={"anatomy": None})
    assert place(asked, unknown, {"a": FACTS}, "small-1").kv_bytes is None


def known(**changes):
    """The facts of Llama 3.1 70B in 4-bit GGUF or AWQ, with its layers."""
    read = architecture("llama-3.1-70b")
    facts = {
        "name": "llama-70b", "quantization": "Q4_K_M", "weights_bytes": 42 * GIB, "layers": read.layers, "hidden": 8192,
        "heads": 64, "kv_heads": 8, "parameters": 70 * 10**9, "context": 131072, "vocabulary": 128256,
        "architecture": "llama", "anatomy": read,
    }  # fmt: skip
    return MODEL.model_copy(update={**facts, **changes})


def sparks(count, kind):
    nodes = tuple(Node(name=f"s{at}", address=f"10.0.0.{at}", devices=(SPARK,)) for at in range(1, count + 1))
    link = Link(between=tuple(node.name for node in nodes), switch="s", kind=kind)
    facts = FACTS.model_copy(update={"memory_total": 119 * GIB, "memory_available": 110 * GIB})
    return Cluster(nodes=nodes, links=(link,)), {node.name: facts for node in nodes}


def test_where_layers_and_devices_are_known_the_fastest_layout_is_launched():
    model = known(quantization="awq", format="safetensors", architecture="LlamaForCausalLM")
    cluster, facts = sparks(4, "roce-200g")
    wish = DeploymentRequest(name="small", cluster=cluster, engine="vllm", variant="ray")
    fast = place(wish, model, facts, "small-1")
    assert (fast.layout.tp, fast.nodes) == (4, ("s1", "s2", "s3", "s4"))
    slow, facts = sparks(4, "tcp-1g")
    assert place(wish.model_copy(update={"cluster": slow}), model, facts, "small-1").layout.ranks == 1


def test_a_layout_that_was_named_is_launched_whatever_would_be_faster():
    model = known(quantization="awq", format="safetensors", architecture="LlamaForCausalLM")
    cluster, facts = sparks(4, "roce-200g")
    wish = DeploymentRequest(name="small", cluster=cluster, engine="vllm", layout="pp2")
    assert str(place(wish, model, facts, "small-1").layout) == "tp1xpp2"


def test_where_the_machines_have_less_to_give_than_the_catalog_says_what_fits_is_launched():
    model = known()
    cluster, facts = sparks(2, "tcp-1g")
    tight = {name: one.model_copy(update={"memory_available": 30 * GIB}) for name, one in facts.items()}
    wish = DeploymentRequest(name="small", cluster=cluster)
    assert place(wish, model, facts, "small-1").layout.ranks == 1
    assert place(wish, model, tight, "small-1").layout.pp == 2


def test_a_device_that_nobody_knows_is_launched_on_by_its_memory():
    model = known()
    strange = CARDS.model_copy(update={"name": "Quantum Card 9000"})
    wish = request(Node(name="a", devices=(strange,)), context=1024, concurrency=1)
    placement = place(wish, model, {"a": FACTS}, "small-1")
    assert placement.layout.ranks == 2
