"""One question to the memory model: what runs where, for whom; knows no answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import ModelArchitecture
from corral.models.parameters import TensorClass
from corral.models.weights import WeightsByClass
from corral.planner.memory.engines import Family, default_batch, family_of
from corral.planner.memory.shares import stage_layers
from corral.planner.speed.values import Split


@dataclass(frozen=True, slots=True)
class MemoryCase:
    """A model on a layout, with what is asked of it. Ranks are tp x pp x dp.

    `split.ep` says over how many ranks whole experts are shared out. `concurrency` counts requests over all replicas,
    each of which may fill `context` tokens. `weights_by_class` are bytes of the model's tensors as its files'
    headers give them, of the whole or layer by layer; without them the format's nominal bits count.
    """

    model: ModelArchitecture
    split: Split
    engine: str
    devices: tuple[DeviceSpec, ...]  # of each stage
    weights: str  # weight format
    context: int
    concurrency: int
    kv: str = "auto"
    weights_by_class: Mapping[TensorClass, int] | WeightsByClass | None = None
    layers: tuple[int, ...] = ()  # of each stage; (): even
    batch: int = 0  # tokens of the engine's largest batch; 0: its default
    block: int = 0  # tokens of a cache block; 0: the engine's default
    eager: bool = False  # no graphs are captured
    draft: bool = False  # multi-token-prediction layers are loaded

    @property
    def family(self) -> Family:
        """Whose arithmetic holds."""
        return family_of(self.engine)

    @property
    def requests(self) -> int:
        """Requests of one data-parallel replica."""
        return ceil(self.concurrency / self.split.dp)

    @property
    def stage_layers(self) -> tuple[int, ...]:
        """Layers of each stage."""
        return self.layers or stage_layers(self.model.layers, self.split.pp)

    @property
    def batch_tokens(self) -> int:
        """Tokens of the engine's largest batch."""
        return self.batch or default_batch(self.family, self.devices[0], self.split.tp * self.split.pp)
