"""Models and nodes for the planner's tests, made from a few numbers."""

from corral.models.values import ModelFacts
from corral.planner.values import NodeResources
from corral.units import GIB


def model(**changes):
    """A 32 B-parameter model in bfloat16, close to Qwen3-32B."""
    facts = {
        "name": "big-32b", "path": "/models/big", "format": "safetensors", "files": (), "architecture": "Big",
        "quantization": "bfloat16", "weights_bytes": 60 * GIB, "parameters": 30 * GIB, "layers": 64, "hidden": 5120,
        "heads": 64, "kv_heads": 8, "head_dim": 128, "context": 40960, "vocabulary": 151936,
        "embedding_bytes": GIB, "head_bytes": GIB,
    }  # fmt: skip
    return ModelFacts(**(facts | changes))


def node(name="n1", gib=24, devices=1, accelerator="cuda"):
    return NodeResources(name=name, device_memory=int(gib * GIB), devices=devices, accelerator=accelerator)
