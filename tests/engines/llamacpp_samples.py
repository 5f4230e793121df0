"""Placements and sites that the tests of llama.cpp share."""

from corral.engines.base import Layout, Placement, Seat, Site
from corral.models.values import ModelFacts

MODEL = ModelFacts(
    name="demo",
    path="/models/demo.gguf",
    format="gguf",
    files=(("demo.gguf", 1_234_083_200),),
    architecture="llama",
    quantization="F32",
    weights_bytes=1_230_000_000,
    parameters=300_000_000,
    layers=8,
    hidden=256,
    heads=4,
    kv_heads=2,
    head_dim=64,
    context=4096,
    vocabulary=512,
)


def placement(*nodes: str, devices: int = 0, **changes) -> Placement:
    """A pipeline over the nodes, each seat with its node's next device when there are any."""
    seen: dict[str, int] = {}
    seats = []
    for node in nodes:
        index = seen.get(node, 0)
        seats.append(Seat(node=node, devices=(index,) if index < devices else ()))
        seen[node] = index + 1
    values = {
        "deployment": "demo-1",
        "model": MODEL,
        "served_name": "demo",
        "layout": Layout(pp=len(nodes)),
        "seats": tuple(seats),
        "accelerator": "cuda" if devices else "cpu",
        "context": 2048,
        "concurrency": 4,
    }
    return Placement(**(values | changes))


def sites(placement: Placement) -> dict[str, Site]:
    """A site for each node: 10.0.0.1, 10.0.0.2, ..."""
    many = len(placement.nodes) > 1
    return {
        node: Site(
            node=node,
            address=f"10.0.0.{number}" if many else "127.0.0.1",
            interface="eth1" if many else "lo",
            environment=f"/cache/envs/{node}",
            scratch=f"/run/{node}",
            cache="/cache",
            model="/models/demo.gguf",
            ports={"api": 20000 + number, "rpc": 21000 + number},
            cores=8,
            memory=16 * 1024**3,
        )
        for number, node in enumerate(placement.nodes, 1)
    }
