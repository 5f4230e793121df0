"""What the user named as a model -> its architecture, its weights by class where files say them, its format's name.

A catalog id or alias, a config.json, a folder, a GGUF file, or a Hub id, of which headers alone are read. Nothing is
fetched to stay; the Hub is given a few seconds.
"""

import os
import queue
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.errors import BadInput, CorralError
from corral.models.architecture import ModelArchitecture
from corral.models.config import architecture_from_config
from corral.models.formats import format_in_name, format_of_config, format_of_gguf
from corral.models.gguf import Header
from corral.models.gguf_architecture import architecture_from_gguf
from corral.models.gguf_facts import quantization_of
from corral.models.hubfiles import select
from corral.models.inspect import inspect
from corral.models.jsonfile import read_object
from corral.models.known import CatalogModel, architecture_of, catalog_model, find_model
from corral.models.source import ModelSource, parse_source
from corral.models.weights import WeightsByClass, gguf_weights, weights_by_class
from corral.values import Value

if TYPE_CHECKING:
    from corral.models.hubheaders import Hub

HUB_SECONDS: Final = 30.0


class ResolvedModel(Value):
    """A model to plan for."""

    architecture: ModelArchitecture
    weights: WeightsByClass | None = None  # measured from headers; None when only the architecture is known
    format: str | None = None  # "fp8", "q4_k_m", ...: what its files are in; None when nothing says it
    notes: tuple[str, ...] = ()  # what to know of how it was read, one sentence each


def resolve(text: str, here: Path, *, estimate: bool = False, seconds: float = HUB_SECONDS) -> ResolvedModel:
    """Read the model that the user named, relative paths from the folder `here`; what is on disk counts first.

    BadInput, with near names, when it is nothing known; CorralError when the Hub does not answer within `seconds`. An
    architecture that is not known is refused by name, or counted as a plain decoder when an estimate is asked for.
    """
    known = None if _on_disk(text, here) else _catalog(text)
    if known is not None:
        return _of_catalog(known, text)
    try:
        source = parse_source(text, here)
    except BadInput:
        if not (_is_path(text) or os.path.lexists(here / text)):
            catalog_model(text)  # says which names are near
        raise
    if source.kind == "local":
        return _local(Path(source.path), estimate=estimate)
    if source.kind == "default":
        return _of_catalog(catalog_model(source.repo), source.pick)
    if source.kind != "hub":
        raise BadInput("The demo model has no plan.", "Name a model of the catalog, a Hub id, or files of your own.")
    return _hub(source, estimate=estimate, seconds=seconds)


def _on_disk(text: str, here: Path) -> bool:
    try:
        return (here / Path(text).expanduser()).exists() if text.strip() else False
    except (OSError, ValueError, RuntimeError):
        return False


def _is_path(text: str) -> bool:
    """Whether it can only have been meant as a file or a folder."""
    plain = text.strip()
    return (
        plain.startswith(("/", ".", "~")) or plain.count("/") > 1 or plain.endswith((".gguf", ".json", ".safetensors"))
    )


def _catalog(text: str) -> CatalogModel | None:
    """The catalog's entry of exactly that name; a Hub id that is only like one is read from the Hub."""
    model = find_model(text)
    plain = text.strip().lower()
    if model is None or "/" not in plain or any(alias.lower() == plain for alias in model.aliases):
        return model
    return None


def _of_catalog(model: CatalogModel, text: str) -> ResolvedModel:
    architecture = architecture_of(model)
    return ResolvedModel(architecture=architecture, format=format_in_name(text), notes=architecture.notes)


def _local(path: Path, *, estimate: bool) -> ResolvedModel:
    if path.suffix == ".json" and path.is_file():
        return _config_file(path, estimate=estimate)
    if path.is_dir() and not any(path.glob("*.safetensors")) and not any(path.glob("*.gguf")):
        config = path / "config.json"
        if config.is_file():
            return _config_file(config, estimate=estimate)
    facts = inspect(path)
    if facts.format == "gguf":
        architecture = facts.anatomy
        if architecture is None:
            raise BadInput(f"{path} does not say enough of its layers.", "Give the model's config.json, or a Hub id.")
        return ResolvedModel(
            architecture=architecture, weights=facts.weights, format=format_of_gguf(facts.quantization)
        )
    read = _config_file(Path(facts.path) / "config.json", estimate=estimate)
    return read.model_copy(update={"weights": facts.weights})


def _config_file(path: Path, *, estimate: bool) -> ResolvedModel:
    config = read_object(path)
    name = (path.parent.absolute().name if path.name == "config.json" else path.stem) or "model"
    architecture = architecture_from_config(config, name=name, source=str(path), id=name.lower(), estimate=estimate)
    return ResolvedModel(architecture=architecture, format=format_of_config(config), notes=architecture.notes)


def _hub(source: ModelSource, *, estimate: bool, seconds: float) -> ResolvedModel:
    """Read a Hub model's headers in a thread, so that a name that is looked up for ever is not waited for."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return _offline(
            source,
            CorralError(
                f"{source.repo} is not here, and HF_HUB_OFFLINE forbids to ask the Hub.",
                "Unset it, or name a model of the catalog or one that is here.",
            ),
        )
    from corral.models import hubheaders  # noqa: PLC0415 - a plan of the catalog's models needs no HTTP

    answers: queue.SimpleQueue[ResolvedModel | Exception] = queue.SimpleQueue()
    hub = hubheaders.Hub(deadline=time.monotonic() + seconds)

    def ask() -> None:
        try:
            answers.put(_read_hub(hub, source, estimate=estimate))
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds + 1)
    except queue.Empty:
        answer = CorralError(
            f"The Hub at {hub.endpoint} did not answer in time for {source.repo}.",
            "Try again, or name a model of the catalog or one that is here.",
        )
    if isinstance(answer, CorralError) and not isinstance(answer, BadInput):
        return _offline(source, answer)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _offline(source: ModelSource, error: CorralError) -> ResolvedModel:
    """What the catalog knows of a model by that name, when the Hub cannot be asked; else the error."""
    known = find_model(source.repo)
    if known is None:
        raise error
    read = _of_catalog(known, f"{source.repo} {source.pick}")
    note = f"The Hub could not be asked: {source.repo} is taken for the catalog's {known.id}, its files were not read."
    return read.model_copy(update={"notes": (note, *read.notes)})


def _read_hub(hub: "Hub", source: ModelSource, *, estimate: bool) -> ResolvedModel:
    from corral.models import hubheaders  # noqa: PLC0415 - as above

    commit, sizes = hub.listing(source)
    names = select(source.repo, sizes, source.pick)
    name = source.repo.rpartition("/")[2]
    where = f"{hub.endpoint}/{source.repo}@{commit[:12]}"
    parts = [file for file in names if file.endswith(".gguf")]
    if parts:
        headers: list[Header] = hubheaders.gguf_headers(hub, source, commit, parts, sizes)
        architecture = architecture_from_gguf(headers, name=name, source=f"{where}:{parts[0]}", id=name.lower())
        return ResolvedModel(
            architecture=architecture,
            weights=gguf_weights(headers, architecture.layers),
            format=format_of_gguf(quantization_of(headers)),
        )
    config = hubheaders.config_of(hub, source, commit)
    architecture = architecture_from_config(
        config, name=name, source=f"{where}:config.json", id=name.lower(), estimate=estimate
    )
    stored = [file for file in names if file.endswith(".safetensors")]
    tensors = hubheaders.safetensors_bytes(hub, source, commit, stored, sizes)
    return ResolvedModel(
        architecture=architecture,
        weights=weights_by_class(tensors, architecture.layers),
        format=format_of_config(config),
        notes=architecture.notes,
    )
