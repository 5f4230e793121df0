"""What the planner takes and gives besides the engines' own words; knows no machine and no process."""

from collections.abc import Mapping
from typing import Literal

from corral.engines.base import Layout, Seat
from corral.models.values import ModelFacts
from corral.values import Value

Accelerator = Literal["cuda", "rocm", "metal", "cpu"]


class NodeResources(Value):
    """What a node offers: `devices` equal accelerators of `device_memory` bytes each that ranks may use.

    A node without accelerators offers its own memory, once, to however many ranks sit on it.
    """

    name: str
    devices: int = 1
    device_memory: int
    accelerator: Accelerator = "cpu"
    unified: bool = False  # the devices' memory is the node's own
    indices: tuple[int, ...] = ()  # of the devices, where not all of the node's are offered; (): counted from 0

    @property
    def shares_memory(self) -> bool:
        """Whether all ranks on this node live in the same memory."""
        return self.accelerator == "cpu"

    def index(self, device: int) -> int:
        """The node's own index of the device that is offered as this one, counted from 0."""
        return self.indices[device] if self.indices else device


class RankMemory(Value):
    """Bytes that one rank takes, part by part."""

    by_class: Mapping[str, int]  # weights by tensor class; "all" when only their sum is known
    kv: int  # cache of attention layers
    state: int = 0  # of recurrent layers
    activations: int = 0
    graphs: int = 0
    communication: int = 0
    framework: int = 0  # the driver's context, libraries, and what processes hold of a memory that they share
    host: int = 0  # kept in the node's memory beside a discrete device's; not part of the total

    @property
    def weights(self) -> int:
        """All weights."""
        return sum(self.by_class.values())

    @property
    def cache(self) -> int:
        """What grows with requests: the attention cache and recurrent states."""
        return self.kv + self.state

    @property
    def overhead(self) -> int:
        """What the engine takes beside weights and caches."""
        return self.activations + self.graphs + self.communication + self.framework

    @property
    def total(self) -> int:
        """All of it that is in the device's memory."""
        return self.weights + self.cache + self.overhead


class Choice(Value):
    """A layout with a seat for each rank, and what each rank takes there."""

    layout: Layout
    seats: tuple[Seat, ...]
    memory: tuple[RankMemory, ...]
    layers: tuple[int, ...] = ()  # of each stage; (): as even as can be


class Demand(Value):
    """A model that is to fit on nodes, and what is wanted of it."""

    model: ModelFacts
    nodes: tuple[NodeResources, ...]
    engine: str  # an engine's name: "vllm", "llamacpp"
    layout: Layout | None = None  # None: any
    context: int  # tokens of one request
    concurrency: int  # requests in flight, each of which may fill its context
    dtype: str | None = None  # None: as the model says
