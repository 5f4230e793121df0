"""What the planner takes and gives besides the engines' own words; knows no machine and no process."""

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

    @property
    def shares_memory(self) -> bool:
        """Whether all ranks on this node live in the same memory."""
        return self.accelerator == "cpu"


class RankMemory(Value):
    """Bytes that one rank takes."""

    weights: int
    kv: int
    overhead: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.overhead


class Choice(Value):
    """A layout with a seat for each rank, and what each rank takes there."""

    layout: Layout
    seats: tuple[Seat, ...]
    memory: tuple[RankMemory, ...]


class Demand(Value):
    """A model that is to fit on nodes, and what is wanted of it."""

    model: ModelFacts
    nodes: tuple[NodeResources, ...]
    engine: str  # an engine's name: "vllm", "llamacpp"
    layout: Layout | None = None  # None: any
    context: int  # tokens of one request
    concurrency: int  # requests in flight, each of which may fill its context
    dtype: str | None = None  # None: as the model says
