"""The catalog's data files, one TOML file an entry, found by id, alias or name; knows no kind's fields.

An entry's first three lines are its `id`, `name` and `aliases`, so that it is found without parsing the others; its
facts follow, each with value, unit, source, date and confidence.
"""

import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

from corral.errors import BadInput

Kind = Literal["devices", "boards", "links", "switches", "engines"]
Table = Mapping[str, Any]

DATA: Final = Path(__file__).with_name("data")
_QUOTED: Final = re.compile(r'"([^"\\]*)"')
_LONGEST: Final = 80  # characters of a name that an error repeats

# What one of a unit is in base units: bytes, bytes a second, operations a second, watts, seconds, US dollars, pieces.
UNITS: Final[Mapping[str, float]] = {
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "GB": 10**9, "TB": 10**12,
    "MB/s": 10**6, "GB/s": 10**9, "Mb/s": 10**6 / 8, "Gb/s": 10**9 / 8,
    "GFLOPS": 10**9, "TFLOPS": 10**12, "TOPS": 10**12,
    "W": 1, "us": 1e-6, "ms": 1e-3, "USD": 1, "devices": 1, "slots": 1,
}  # fmt: skip


_BYTES: Final = frozenset({"KiB", "MiB", "GiB", "GB", "TB"})


def entry_ids(kind: Kind) -> tuple[str, ...]:
    """The ids of a kind, in alphabetical order."""
    return _ids(kind)


@cache
def _ids(kind: Kind) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (DATA / kind).glob("*.toml")))


@cache
def read_entry(kind: Kind, entry: str) -> Table:
    """The parsed file of one entry; `entry` is one of `entry_ids(kind)`."""
    return tomllib.loads(_path(kind, entry).read_text("utf-8"))


def find_entry(kind: Kind, name: str) -> str | None:
    """The id of the entry of this id, alias or name, whatever its case and punctuation; None when there is none."""
    if name in _ids(kind):
        return name
    return names(kind).get(plain(name))


def entry_of(kind: Kind, name: str, remedy: str) -> Table:
    """The entry of this id, alias or name; BadInput with near matches and the remedy when there is none."""
    found = find_entry(kind, name)
    if found is None:
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
        raise BadInput(f'"{shown}" is none of the {kind} of the catalog{_near(kind, name)}.', remedy)
    return read_entry(kind, found)


@cache
def names(kind: Kind) -> Mapping[str, str]:
    """Every name of a kind, as `plain` makes it, and the id it stands for."""
    found: dict[str, str] = {}
    for entry in _ids(kind):
        with _path(kind, entry).open(encoding="utf-8") as file:
            head = file.readline(), file.readline(), file.readline()
        for name in _QUOTED.findall("".join(head)):
            found.setdefault(plain(name), entry)
    return found


def plain(name: str) -> str:
    """A name as it is compared: "NVIDIA GeForce RTX 3090" and "geforce_rtx-3090" are the same."""
    kept = "".join(character for character in name.casefold() if character.isalnum() or character == ".")
    return kept.removeprefix("nvidia").removeprefix("amd") or kept


def in_si(fact: Table) -> float:
    """A fact's value in base units: {"value": 936.2, "unit": "GB/s"} -> 936.2e9 bytes a second."""
    si: float = fact["value"] * UNITS[fact["unit"]]
    return round(si) if fact["unit"] in _BYTES else si


def _near(kind: Kind, name: str) -> str:
    known = names(kind)
    near = get_close_matches(plain(name[:_LONGEST]), known, n=6, cutoff=0.6)
    ids = list(dict.fromkeys(known[match] for match in near))[:3]
    return f"; near it are {', '.join(ids)}" if ids else ""


def _path(kind: Kind, entry: str) -> Path:
    return DATA / kind / f"{entry}.toml"
