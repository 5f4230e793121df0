"""Brings a model's files to the nodes that read them; knows no engine."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from corral.errors import BadInput, NodeFailed
from corral.launcher.environments import Report
from corral.launcher.node import Node, NodeFacts
from corral.launcher.onnode import site
from corral.launcher.race import together
from corral.models.values import ModelFacts
from corral.units import format_bytes

STAGE: Final = "model files"
SPARE_BYTES: Final = 1 << 30  # that stay free on a node's disk


async def place_all(
    model: ModelFacts, readers: Sequence[str], nodes: Mapping[str, Node], facts: Mapping[str, NodeFacts], report: Report
) -> dict[str, str]:
    """Give the path of the model on each node that reads it, copying the files where they are missing."""
    prints = {} if all(nodes[name].host.is_local for name in readers) else await asyncio.to_thread(_prints, model)
    return await together({name: _place(model, prints, nodes[name], facts[name], report) for name in readers})


def folder_of(model: ModelFacts) -> Path:
    """The folder that the model's file names are relative to."""
    path = Path(model.path)
    return path if model.format == "safetensors" else path.parent


def _prints(model: ModelFacts) -> dict[str, str]:
    """The print of each file here, as nodes give those of theirs."""
    here = folder_of(model)
    prints: dict[str, str] = site.files({"folder": str(here), "files": model.files})["present"]
    for name, _ in model.files:
        if name not in prints:
            raise BadInput(
                f"{here / name} cannot be read, or changed since it was looked at.",
                "Let whatever writes it finish, then try again.",
            )
    return prints


async def _place(model: ModelFacts, prints: Mapping[str, str], node: Node, facts: NodeFacts, report: Report) -> str:
    """Find or bring the files on one node. What is there counts when its prints are those of the files here."""
    if node.host.is_local:
        report(STAGE, "here already", fraction=1.0, subject=node.name)
        return model.path
    here = folder_of(model)
    # The same path on the node may be the same disk (NFS, a shared home), or a copy of another fine-tune, whose files
    # have the same names and sizes: prints tell.
    if await node.present(str(here), model.files) == prints:
        report(STAGE, f"at {here} already", fraction=1.0, subject=node.name)
        return model.path
    target = f"{facts.cache}/models/{_slug(model)}"
    present = await node.present(target, model.files)
    missing = [(name, size) for name, size in model.files if present.get(name) != prints[name]]
    need = sum(size for _, size in missing)
    if need + SPARE_BYTES > facts.disk_free and need > 0:
        raise NodeFailed(
            node.name,
            f"{node.name} has {format_bytes(facts.disk_free)} free where its cache is, {model.name} needs "
            f"{format_bytes(need)} there.",
            "Free space on that disk, or give the node another `cache` folder in the cluster file.",
        )
    done = 0
    for name, size in missing:
        on_bytes = partial(_copying, report, node.name, name, size, done, need)
        on_bytes(0)
        await node.host.put(here / name, f"{target}/{name}", on_bytes=on_bytes)
        done += size
    report(STAGE, f"{format_bytes(need)} copied" if need else "here already", fraction=1.0, subject=node.name)
    return target if model.format == "safetensors" else f"{target}/{Path(model.path).name}"


def _copying(report: Report, node: str, name: str, size: int, before: int, need: int, sent: int) -> None:
    """Say how far one file is, and with the bytes copied before it how far the whole is."""
    text = f"copying {name}, {format_bytes(sent)} of {format_bytes(size)}"
    report(STAGE, text, fraction=min((before + sent) / max(need, 1), 0.99), subject=node)


def _slug(model: ModelFacts) -> str:
    """A folder name that two models with different files never share, nor one model before and after a change."""
    folder = folder_of(model)
    stamps = [(name, size, (folder / name).stat().st_mtime_ns) for name, size in model.files]
    digest = hashlib.sha256(repr((model.path, stamps)).encode()).hexdigest()[:12]
    safe = "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in model.name)
    return f"{safe[:48]}-{digest}"
