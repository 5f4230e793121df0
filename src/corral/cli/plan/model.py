"""The MODEL that a plan is asked for: a catalog id, a Hub id, or files on this machine; knows no cluster."""

from collections.abc import Mapping
from pathlib import Path

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.parameters import TensorClass
from corral.values import Value


class PlannedModel(Value):
    """An architecture, and of files that were read what they hold."""

    architecture: ModelArchitecture
    engine: str | None = None  # that reads such files; None: any
    weights: str | None = None  # format of the files
    weights_bytes: int | None = None
    weights_by_class: Mapping[TensorClass, int] = {}


def read_model(text: str) -> PlannedModel:
    """Read what the user named; files that are there count first, then the catalog, then the Hub.

    BadInput with near matches when it is none of these.
    """
    path = Path(text).expanduser()
    try:
        there = path.exists()
    except (OSError, ValueError):  # a name too long, a NUL in it
        there = False
    if there:
        return _read_files(path)
    from corral.models.known import architecture

    return PlannedModel(architecture=architecture(text))


def _read_files(path: Path) -> PlannedModel:
    from corral.models.config import architecture_from_config
    from corral.models.jsonfile import read_object

    config = path / "config.json" if path.is_dir() else path
    if config.suffix != ".json" or not config.is_file():
        raise BadInput(f"{path} holds no config.json.", "Name a catalog id, or a model's config.json.")
    name = config.parent.name if config.name == "config.json" else config.stem
    found = architecture_from_config(read_object(config), name=name, source=str(config), id=name.lower())
    return PlannedModel(architecture=found)
