"""The models that Corral knows by name, out of the catalog's data; knows no network and no model file.

One JSON file a model holds the facts of its config.json that decide sizes, where they were read, and the parameter
counts that others published. A name is a catalog id, a Hub id, or a common name.
"""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final, Literal

from pydantic import ValidationError

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.config import architecture_from_config
from corral.values import Value

Part = Literal["language", "draft", "vision"]

# What is said of a model's copy and changes none of its sizes: how it was tuned, its format, its quantization.
_COPY: Final = re.compile(
    r"[-_.:](?:instruct|it|chat|hf|gguf|mlx|awq|gptq|fp8|fp4|nvfp4|mxfp4|mxfp8|bf16|f16|fp16|int4|int8|w4a16|[2348]bit"
    r"|i?q\d\w*|dynamic|thinking|latest|\d{4})$"
)
_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}")


class PublishedCount(Value):
    """A parameter count to hold ours against, and what it counts."""

    # counted: by the reference implementation from the same configuration, which proves our counting, not the sizes
    origin: Literal["published", "counted"]
    kind: Literal["total", "active"]
    parameters: int
    rounding: int  # it is rounded to multiples of this; 0: exact
    of: tuple[Part, ...]
    without: tuple[Literal["embedding"], ...] = ()  # left out of the count
    source: str
    date: str


class CatalogModel(Value):
    """A model of the catalog. `config` holds what of its config.json decides sizes."""

    id: str
    name: str
    aliases: tuple[str, ...]
    confidence: Literal["high", "medium", "low"]
    source: str
    date: str
    config: Mapping[str, object]
    published: tuple[PublishedCount, ...]
    notes: tuple[str, ...] = ()  # what is assumed, one sentence each


def architecture(name: str) -> ModelArchitecture:
    """The architecture of the model of that name. BadInput, with near names, when the catalog has none."""
    return architecture_of(catalog_model(name))


def architecture_of(model: CatalogModel) -> ModelArchitecture:
    """The architecture that a catalog entry describes."""
    read = architecture_from_config(model.config, name=model.name, source=model.source, id=model.id)
    return read.model_copy(update={"notes": (*model.notes, *read.notes)}) if model.notes else read


def catalog_model(name: str) -> CatalogModel:
    """The catalog's entry of that name. BadInput, with near names, when it has none."""
    found = find_model(name)
    if found is not None:
        return found
    by_key = {_key(known): known for model in _models() for known in (*reversed(model.aliases), model.id)}
    near = [by_key[key] for key in get_close_matches(_key(name), sorted(by_key), n=4, cutoff=0.5)]
    raise BadInput(
        f"The catalog has no model {name[:100]!r}.",
        f"Did you mean {', '.join(near)}?" if near else "`corral catalog models` lists those that it has.",
    )


def find_model(name: str) -> CatalogModel | None:
    """As `catalog_model`, but None when there is none."""
    plain = name.strip().lower()
    if _ID.fullmatch(plain) and (direct := _folder() / f"{plain}.json").is_file():
        return _load(direct)
    key = _key(name)
    matched: CatalogModel | None = None
    for model in _models():
        if any(known.lower() == plain for known in model.aliases):
            return model
        if matched is None and any(_key(known) == key for known in (model.id, *model.aliases)):
            matched = model
    return matched


def known_models() -> tuple[CatalogModel, ...]:
    """All models of the catalog, by id."""
    return tuple(sorted(_models(), key=lambda model: model.id))


def _key(name: str) -> str:
    """What is left of a name without its owner and what is said of the copy."""
    key = name.strip().lower().rpartition("/")[2].replace("_", "-").replace(" ", "-")
    while (shorter := _COPY.sub("", key)) != key and shorter:
        key = shorter
    return key.removeprefix("meta-").removeprefix("nvidia-")


def _folder() -> Traversable:
    return files("corral.catalog") / "data" / "models"


def _models() -> Iterator[CatalogModel]:
    for file in _folder().iterdir():
        if file.name.endswith(".json"):
            yield _load(file)


def _load(file: Traversable) -> CatalogModel:
    try:
        return CatalogModel.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"The catalog's entry {file.name} is damaged: {first['loc']}: {first['msg']}.", "Install Corral again."
        ) from None
