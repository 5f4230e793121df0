"""Reads a model's facts from wherever it lies on this machine: a GGUF file or a folder; knows no network."""

from pathlib import Path

from corral.errors import BadInput
from corral.models.gguf_facts import read_gguf
from corral.models.hf_facts import read_folder
from corral.models.shards import shard_names
from corral.models.values import ModelFacts


def inspect(path: Path) -> ModelFacts:
    """Read a GGUF file, a folder of safetensors, or a folder that holds one GGUF model.

    Only headers are read: milliseconds, whatever the model's size. BadInput says what is wrong and where.
    """
    try:
        path.stat()
        if path.is_dir():
            return _inspect_folder(path)
        if not path.is_file():
            raise BadInput(f"{path} is no file and no folder.", "Give a GGUF file or a model's folder.")
        if path.suffix == ".safetensors" and (path.parent / "config.json").is_file():
            return read_folder(path.parent)
        return read_gguf(path)
    except OSError as error:
        raise BadInput(
            f"{error.filename or path} cannot be read: {error.strerror}.", "Give a GGUF file or a model's folder."
        ) from None


def _inspect_folder(folder: Path) -> ModelFacts:
    models = {
        shard_names(file.name)[0]: file
        for file in sorted(folder.glob("*.gguf"))
        if not file.name.lower().startswith("mmproj")
    }
    if not models or next(folder.glob("*.safetensors"), None):
        return read_folder(folder)
    if len(models) > 1:
        raise BadInput(
            f"{folder} holds {len(models)} GGUF models: {', '.join(sorted(models)[:5])}.", "Name one of the files."
        )
    return read_gguf(next(iter(models.values())))
