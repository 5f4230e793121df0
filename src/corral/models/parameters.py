"""Counts a model's parameters by tensor class, block by block; knows no format and no split."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from corral.models.architecture import Block, ModelArchitecture

TensorClass: TypeAlias = Literal[
    "embedding", "head", "attention", "recurrent", "mlp", "experts", "shared", "router", "norm", "draft", "vision"
]


def block_parameters(block: Block, hidden: int) -> Mapping[TensorClass, int]:
    """Parameters of one layer of this kind. `experts` counts all routed experts, `shared` shared ones."""
    raise NotImplementedError


def parameters(model: ModelArchitecture) -> Mapping[TensorClass, int]:
    """Parameters of the whole model by class. A tied head counts once, as embedding."""
    raise NotImplementedError


def active_parameters(model: ModelArchitecture) -> int:
    """Parameters that one generated token uses: all but the experts not chosen; a tied embedding counts once."""
    raise NotImplementedError
