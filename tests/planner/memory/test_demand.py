"""The choice of a layout counts memory by the model's architecture where it is known."""

import pytest

from corral.engines.base import Layout
from corral.errors import DoesNotFit
from corral.models.inspect import inspect
from corral.models.parameters import parameters
from corral.models.values import ModelFacts
from corral.models.weights import WeightsByClass
from corral.planner.layout import choose, parse_layout
from corral.planner.memory.demand import demand_memory, stored_bytes
from corral.planner.values import Demand
from corral.units import GIB
from planner.made import node
from planner.memory import made_gguf as made
from planner.memory.engine_cases import MODELS
from planner.memory.made_gguf import gguf_of
from planner.memory.sparse_gguf import write

SLIDING = made.sliding(
    "sliding", layers=48, hidden=3840, heads=16, kv_heads=8, head_dim=256, width=15360, vocabulary=262208, window=1024
)


def facts_of(model, bits=16, **changes):
    counts = parameters(model)
    total = sum(counts.values())
    attention = model.blocks[model.order[-1]].mixer
    facts = {
        "name": model.id, "path": "/models/x", "format": "safetensors", "files": (), "architecture": "X",
        "quantization": "bfloat16", "weights_bytes": total * bits // 8, "parameters": total, "layers": model.layers,
        "hidden": model.hidden, "heads": attention.heads, "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim, "context": model.context, "vocabulary": model.vocabulary,
        "embedding_bytes": counts["embedding"] * bits // 8, "head_bytes": counts.get("head", 0) * bits // 8,
        "anatomy": model,
    }  # fmt: skip
    return ModelFacts(**(facts | changes))


def chosen(model, nodes, *, known=True, engine="llamacpp", layout=None, context=32768, concurrency=1):
    return choose(
        facts_of(model, anatomy=model if known else None),
        nodes,
        engine=engine,
        layout=parse_layout(layout) if layout else None,
        context=context,
        concurrency=concurrency,
    )


@pytest.mark.parametrize("engine", ["vllm", "llamacpp"])
def test_windows_are_not_counted_as_if_they_kept_everything(engine):
    with pytest.raises(DoesNotFit, match="KV cache 12"):
        chosen(SLIDING, [node(gib=32, accelerator="cuda")], known=False, engine=engine)
    found = chosen(SLIDING, [node(gib=32)], engine=engine)
    assert found.layout == Layout()
    assert found.memory[0].kv < 4 * GIB


def test_what_is_refused_says_what_the_parts_are():
    with pytest.raises(DoesNotFit, match=r"weights 2\d\.\d GiB, KV cache \d\.\d GiB, engine") as raised:
        chosen(SLIDING, [node(gib=24)], engine="vllm")
    assert "1 more node like n1" in raised.value.remedy


def test_layers_go_where_there_is_room():
    nodes = [node("small", gib=12), node("large", gib=32)]
    found = chosen(SLIDING, nodes, engine="vllm", layout="pp2", context=8192)
    assert found.layout == Layout(pp=2)
    assert [seat.node for seat in found.seats] == ["small", "large"]
    assert sum(found.layers) == 48
    assert found.layers[0] < found.layers[1]
    assert chosen(SLIDING, [node("a", gib=32), node("b", gib=32)], layout="pp2", context=8192).layers == ()


def test_a_file_of_another_model_is_counted_by_its_facts():
    assert stored_bytes(facts_of(SLIDING, parameters=10**9)) is None
    assert stored_bytes(facts_of(SLIDING, quantization="marvellous")) is None
    assert stored_bytes(facts_of(SLIDING, anatomy=None)) is None
    demand = Demand(
        model=facts_of(SLIDING, parameters=10**9), nodes=(node(),), engine="vllm",
        context=4096, concurrency=1,
    )  # fmt: skip
    assert demand_memory(demand, Layout(), demand.nodes)[0].by_class.keys() == {"all"}


def test_bytes_of_the_file_are_shared_out_as_its_format_does():
    facts = facts_of(SLIDING, format="gguf", quantization="Q4_K_M", weights_bytes=7 * GIB, embedding_bytes=GIB)
    stored = stored_bytes(facts)
    assert sum(stored.values()) == pytest.approx(7 * GIB, abs=10)
    assert stored["embedding"] == GIB
    counts = parameters(SLIDING)
    assert stored["norm"] / counts["norm"] > 5 * stored["mlp"] / counts["mlp"]


def test_weights_that_the_engine_converts_are_counted_converted():
    def weights(dtype):
        demand = Demand(
            model=facts_of(SLIDING), nodes=(node(),), engine="vllm", context=4096,
            concurrency=1, dtype=dtype,
        )  # fmt: skip
        return demand_memory(demand, Layout(), demand.nodes)[0]

    assert weights("float32").weights == pytest.approx(2 * weights(None).weights, rel=1e-3)
    assert weights("float32").kv == 2 * weights(None).kv


@pytest.mark.parametrize("model", ["dense", "dense-tied", "sliding", "moe", "latent", "mamba2", "delta-net"])
def test_a_file_s_every_byte_is_held_once(model, tmp_path):
    """Of each family, read from a GGUF file's headers: the stages hold what the file holds, a tied head twice."""
    write(gguf_of(MODELS[model], "q8_0"), tmp_path / "model.gguf")
    facts = inspect(tmp_path / "model.gguf")
    assert facts.anatomy is not None
    cpu = node(accelerator="cpu")
    demand = Demand(model=facts, nodes=(cpu, cpu), engine="llamacpp", context=4096, concurrency=2)
    (whole,) = demand_memory(demand, Layout(), (cpu,))
    assert whole.weights == pytest.approx(facts.weights_bytes, abs=64)
    stages = demand_memory(demand, Layout(pp=2), (cpu, cpu), (1, facts.layers - 1))
    again = facts.embedding_bytes if facts.anatomy.tied else 0
    assert sum(stage.weights for stage in stages) == pytest.approx(facts.weights_bytes + again, abs=64)


def test_layers_that_a_mix_keeps_wider_weigh_more():
    model = made.dense("d", layers=4, hidden=256, heads=4, kv_heads=4, head_dim=64, width=512, vocabulary=1000)
    layer = {"attention": 4 * 256 * 256, "mlp": 3 * 256 * 512}
    wide = {tensor: 2 * size for tensor, size in layer.items()}
    stored = WeightsByClass(layers=(wide, layer, layer, layer), outside={"embedding": 256000, "head": 256000})
    facts = facts_of(model, weights=stored)
    demand = Demand(model=facts, nodes=(node(), node()), engine="vllm", context=4096, concurrency=1)
    first, last = demand_memory(demand, Layout(pp=2), demand.nodes)
    assert first.by_class["mlp"] == 3 * layer["mlp"]
    assert last.by_class["mlp"] == 2 * layer["mlp"]
