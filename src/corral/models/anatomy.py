"""Reads a model's architecture from the files that its facts were read from; knows no network and no engine."""

from pathlib import Path

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.config import architecture_from_config
from corral.models.jsonfile import read_object
from corral.models.values import ModelFacts


def read_architecture(facts: ModelFacts) -> ModelArchitecture | None:
    """The architecture that the model's config.json describes; None when it is not one that is known."""
    if facts.format != "safetensors":
        return None
    path = Path(facts.path) / "config.json"
    try:
        return architecture_from_config(read_object(path), name=facts.name, source=str(path), id=facts.name)
    except BadInput:
        return None
