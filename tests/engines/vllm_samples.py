"""Placements and sites that the tests of vLLM share."""

from corral.engines.base import Layout, Placement, Seat, Site
from corral.engines.vllm import Vllm
from corral.models.values import ModelFacts

SECRET = "a-token-that-nobody-may-see"
MODEL = ModelFacts(
    name="demo",
    path="/models/demo",
    format="safetensors",
    files=(("config.json", 700), ("model.safetensors", 10_140_712)),
    architecture="LlamaForCausalLM",
    quantization="float32",
    weights_bytes=10_138_000,
    parameters=2_500_000,
    layers=4,
    hidden=256,
    heads=4,
    kv_heads=2,
    head_dim=64,
    context=2048,
    vocabulary=337,
)
LARGE = MODEL.model_copy(
    update={
        "name": "large",
        "quantization": "bfloat16",
        "layers": 80,
        "heads": 64,
        "kv_heads": 8,
        "head_dim": 128,
        "context": 131072,
    }
)


def placement(*nodes: str, tp: int = 1, pp: int = 1, devices: bool = False, **changes) -> Placement:
    """Ranks on the nodes as they are named, one seat a name; with devices each takes its node's next."""
    seen: dict[str, int] = {}
    seats = []
    for node in nodes:
        index = seen.get(node, 0)
        seats.append(Seat(node=node, devices=(index,) if devices else ()))
        seen[node] = index + 1
    values = {
        "deployment": "demo-1",
        "model": MODEL,
        "served_name": "demo",
        "layout": Layout(tp=tp, pp=pp),
        "seats": tuple(seats),
        "accelerator": "cuda" if devices else "cpu",
        "context": 1024,
        "concurrency": 4,
    }
    return Placement(**(values | changes))


def sites(placement: Placement, **changes) -> dict[str, Site]:
    """A site for each node, 10.0.0.1, 10.0.0.2, ..., with the ports that the engine asks for, from 20000 up."""
    many = len(placement.nodes) > 1
    wanted = Vllm().ports(placement)
    values = {
        "interface": "eth1" if many else "lo",
        "environment": "/cache/envs/0",
        "scratch": "/tmp/corral-1",
        "cache": "/cache",
        "model": "/models/demo",
        "cores": 8,
        "memory": 16 * 1024**3,
        "secret": SECRET,
    }
    return {
        node: Site(
            node=node,
            address=f"10.0.0.{number}" if many else "127.0.0.1",
            ports=given(wanted[node]),
            **(values | changes),
        )
        for number, node in enumerate(placement.nodes, start=1)
    }


def given(wanted) -> dict[str, int]:
    """Ports as a launcher gives them: in a row, blocks whole."""
    ports, free = {}, 20000
    for want in wanted:
        count, name = want.split(":")[1:] if want.startswith("block:") else ("1", want)
        ports[name] = free
        free += int(count)
    return ports


def option(argv, name: str) -> str:
    """The word after an option."""
    return argv[argv.index(name) + 1]
