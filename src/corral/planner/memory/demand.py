"""What each rank of a demand takes: from the model's architecture where it is known, else from its facts alone."""

from collections.abc import Mapping, Sequence
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.engines.base import Layout
from corral.errors import BadInput
from corral.models.parameters import TensorClass, parameters
from corral.models.values import ModelFacts
from corral.models.weights import WeightsByClass
from corral.planner.formats import weight_format
from corral.planner.memory.engines import room
from corral.planner.memory.facts import facts_memory
from corral.planner.memory.rank import rank_memory
from corral.planner.speed.values import Split
from corral.planner.values import Demand, NodeResources, RankMemory

# An architecture whose parameters differ from the file's by more than this share describes another model.
_TRUSTED: Final = 0.1
_CACHE: Final = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def demand_memory(
    demand: Demand, layout: Layout, nodes: Sequence[NodeResources], layers: Sequence[int] = ()
) -> tuple[RankMemory, ...]:
    """What each rank takes in bytes, in rank order. `nodes` are those of each stage; `layers` else even."""
    model, known = demand.model, demand.model.anatomy
    stored = stored_bytes(model)
    if known is None or stored is None:
        return facts_memory(
            model,
            layout,
            engine=demand.engine,
            accelerator=nodes[0].accelerator,
            context=demand.context,
            concurrency=demand.concurrency,
            dtype=demand.dtype,
        )
    weights = demand.dtype if _converted(demand) else model.quantization
    return rank_memory(
        known,
        Split(tp=layout.tp, pp=layout.pp),
        engine=demand.engine,
        device=[device_of(node) for node in nodes],
        weights=weights or model.quantization,
        weights_by_class=None if _converted(demand) else stored,
        kv=_CACHE.get(demand.dtype or "", "auto"),
        context=demand.context,
        concurrency=demand.concurrency,
        layers=layers,
    )


def node_room(node: NodeResources, engine: str) -> int:
    """Bytes of one of the node's devices that an engine may fill."""
    return room(device_of(node), engine)


def device_of(node: NodeResources) -> DeviceSpec:
    """A node's devices as far as memory goes; nothing else of them is known here."""
    return DeviceSpec(
        id=node.accelerator,
        name=node.name,
        vendor="arm" if node.accelerator == "cpu" else "nvidia",
        kind="cpu" if node.accelerator == "cpu" else "consumer",
        generation="",
        memory=node.device_memory,
        usable=node.device_memory,
        unified=node.unified,
        bandwidth=0,
        flops={},
        matrix=frozenset(),
        power_limit=0,
    )


def stored_bytes(facts: ModelFacts) -> Mapping[TensorClass, int] | WeightsByClass | None:
    """Bytes of the file's tensors: as read by class and layer, else shared out as its format does.

    None when the file is of another model than the architecture describes, or of a format that is not known.
    """
    if facts.anatomy is None:
        return None
    counts = dict(parameters(facts.anatomy))
    if abs(sum(counts.values()) - facts.parameters) > _TRUSTED * facts.parameters:
        return None
    try:
        nominal = weight_format(facts.quantization, gguf=facts.format == "gguf")
    except BadInput:
        return None
    if facts.weights is not None:
        return facts.weights
    read: dict[TensorClass, int] = {"embedding": facts.embedding_bytes, "head": facts.head_bytes}
    read = {tensor: size for tensor, size in read.items() if size and tensor in counts}
    rest: dict[TensorClass, float] = {
        tensor: count * nominal.bits(tensor) for tensor, count in counts.items() if tensor not in read
    }
    scale = (facts.weights_bytes - sum(read.values())) / sum(rest.values())
    shared: dict[TensorClass, int] = {tensor: round(size * scale) for tensor, size in rest.items()}
    return read | shared


def _converted(demand: Demand) -> bool:
    """Whether the engine stores the weights in another format than the file's: vLLM does with plain floats."""
    plain = {"float32", "float16", "bfloat16", "fp32", "fp16", "bf16"}
    return demand.engine == "vllm" and demand.dtype is not None and demand.model.quantization.lower() in plain
