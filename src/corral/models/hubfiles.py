"""Chooses which files of a Hub repository to fetch; knows names and sizes, not the network."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Final

from corral.errors import BadInput
from corral.models.shards import shard_names, without_shard

_BESIDE: Final = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_POOLING: Final = re.compile(r"[0-9]_[A-Za-z]+/config\.json")
# Of several quantizations, when none is named: llama.cpp's own default first, then what is nearest to it and better.
_PREFERRED: Final = ("Q4_K_M", "Q4_K_XL", "MXFP4", "Q5_K_M", "Q6_K", "Q8_0", "Q4_0", "BF16", "F16")


def select(repo: str, sizes: Mapping[str, int], pick: str = "") -> tuple[str, ...]:
    """The files to fetch, the one to open first; `pick` names a file or a quantization, or is empty.

    BadInput, with what there is, when the repository has nothing that fits.
    """
    ggufs = sorted(name for name in sizes if name.endswith(".gguf") and not _is_projector(name))
    if pick:
        return _picked(repo, sizes, ggufs, pick)
    weights = sorted(name for name in sizes if name.endswith(".safetensors") and "/" not in name)
    own = [name for name in weights if not name.startswith(("consolidated", "adapter"))]
    if own and "config.json" in sizes:
        beside = sorted(
            name for name in sizes if (name.endswith(_BESIDE) and "/" not in name) or _POOLING.fullmatch(name)
        )
        return (*beside, *own)
    if ggufs:
        return _whole(repo, sizes, _preferred(repo, ggufs))
    kinds = sorted({PurePosixPath(name).suffix for name in sizes} - {"", ".md"})
    raise BadInput(
        f"{repo} holds no model in safetensors or GGUF form, only {', '.join(kinds[:8]) or 'nothing'}.",
        "Choose another repository of the same model; many have GGUF in their name.",
    )


def _picked(repo: str, sizes: Mapping[str, int], ggufs: list[str], pick: str) -> tuple[str, ...]:
    if pick in sizes:
        return _whole(repo, sizes, pick)
    ending = re.compile(rf"(?:^|[-._/]){re.escape(pick)}$", re.IGNORECASE)
    found = [name for name in ggufs if ending.search(_stem(name))]
    if not found:
        raise BadInput(f"{repo} has no file or quantization {pick!r}.", f"It has {_list(ggufs) or 'no GGUF file'}.")
    return _whole(repo, sizes, found[0])


def _preferred(repo: str, ggufs: list[str]) -> str:
    stems = {_stem(name): name for name in reversed(ggufs)}
    if len(stems) == 1:
        return ggufs[0]
    for quantization in _PREFERRED:
        for name in ggufs:
            if _stem(name).upper().endswith(quantization):
                return name
    raise BadInput(
        f"{repo} has {len(stems)} GGUF models.", f"Name one after a colon: {repo}:FILE. It has {_list(ggufs)}."
    )


def _whole(repo: str, sizes: Mapping[str, int], name: str) -> tuple[str, ...]:
    """All parts of the model that a file belongs to."""
    path = PurePosixPath(name)
    parts = tuple(str(path.with_name(part)) for part in shard_names(path.name))
    missing = [part for part in parts if part not in sizes]
    if missing:
        raise BadInput(f"{repo} lacks {missing[0]}, a part of {name}.", "Choose another file or repository.")
    return parts


def _stem(name: str) -> str:
    return without_shard(name.removesuffix(".gguf"))


def _is_projector(name: str) -> bool:
    return PurePosixPath(name).name.lower().startswith(("mmproj", "imatrix"))


def _list(names: list[str]) -> str:
    stems = list(dict.fromkeys(_stem(name) for name in names))
    return ", ".join(stems[:12]) + (f" and {len(stems) - 12} more" if len(stems) > 12 else "")
