"""Every entry of the catalog as names and facts, for people who look things up; knows no field's meaning."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from corral.catalog.entries import DATA, Kind, Table, entry_ids, plain, read_entry
from corral.errors import BadInput
from corral.values import Value

AnyKind: TypeAlias = Kind | Literal["models"]
KINDS: Final[tuple[AnyKind, ...]] = (*get_args(Kind), "models")
_SOURCED: Final = frozenset({"source", "date", "confidence", "note", "unit", "units"})
_LISTS: Final = {
    "operations": "measured",
    "domains": "domain",
    "ports": "ports",
    "support": "rule",
    "remarks": "remark",
}


class Fact(Value):
    """One line of thought: what is so, who says it, since when, and how sure that is."""

    name: str
    value: str
    unit: str = ""
    source: str
    date: str  # of the source, or when it was read
    confidence: str  # "high", "medium", "low"; "estimated": no source states it, the note says how it came
    note: str = ""


class Entry(Value):
    """One entry of the catalog, with all that it knows."""

    kind: AnyKind
    id: str
    name: str
    aliases: tuple[str, ...] = ()
    properties: Mapping[str, str] = {}  # what names and sorts the entry, without a source of its own
    facts: tuple[Fact, ...] = ()


def listing(kind: AnyKind) -> tuple[Entry, ...]:
    """All entries of a kind, by id."""
    return tuple(_entry(kind, entry) for entry in _ids(kind))


def show(name: str) -> tuple[Entry, ...]:
    """The entries of this id, alias or name, of whatever kind; BadInput with near matches when there is none."""
    wanted = plain(name)
    found = tuple(entry for kind in KINDS for entry in listing(kind) if wanted in _names(entry))
    if not found:
        known = {said: entry.id for kind in KINDS for entry in listing(kind) for said in _names(entry)}
        near = dict.fromkeys(known[match] for match in get_close_matches(wanted[:80], known, n=6, cutoff=0.6))
        hint = f"; near it are {', '.join(list(near)[:4])}" if near else ""
        raise BadInput(f'The catalog has no "{name[:80]}"{hint}.', "`corral catalog search WORDS` looks in all of it.")
    return found


def search(words: Sequence[str]) -> tuple[Entry, ...]:
    """The entries in which every word occurs: first those that are called so, then those that mention it."""
    wanted = [plain(word) for word in words if plain(word)]
    called: list[Entry] = []
    mentioned: list[Entry] = []
    for entry in (entry for kind in KINDS for entry in listing(kind)) if wanted else ():
        if all(any(word in name for name in _names(entry)) for word in wanted):
            called.append(entry)
        elif all(word in _text(entry.kind, entry.id) for word in wanted):
            mentioned.append(entry)
    return (*called, *mentioned)


def _ids(kind: AnyKind) -> tuple[str, ...]:
    if kind != "models":
        return entry_ids(kind)
    return tuple(sorted(path.stem for path in _models().glob("*.json")))


def _models() -> Path:
    return DATA / "models"


@cache
def _text(kind: AnyKind, entry: str) -> str:
    path = _models() / f"{entry}.json" if kind == "models" else DATA / kind / f"{entry}.toml"
    return plain(path.read_text("utf-8"))


def _names(entry: Entry) -> frozenset[str]:
    return frozenset(plain(name) for name in (entry.id, entry.name, *entry.aliases))


@cache
def _entry(kind: AnyKind, entry: str) -> Entry:
    if kind == "models":
        return _model(json.loads((_models() / f"{entry}.json").read_text("utf-8")))
    table = read_entry(kind, entry)
    properties = {
        name: _said(value)
        for name, value in table.items()
        if name not in {"id", "name", "aliases", "facts", *_LISTS} and value not in ([], ())
    }
    named = [_fact(name, fact) for name, fact in table.get("facts", {}).items()]
    listed = [_row(_LISTS[part], row) for part in _LISTS for row in table.get(part, ())]
    return Entry(
        kind=kind,
        id=table["id"],
        name=table["name"],
        aliases=tuple(table["aliases"]),
        properties=properties,
        facts=(*named, *listed),
    )


def _fact(name: str, fact: Table) -> Fact:
    unit = fact["unit"] if isinstance(fact["value"], int | float) else ""
    return Fact(name=name, value=_said(fact["value"]), unit=unit, **_source(fact))


def _row(name: str, row: Table) -> Fact:
    """A row of a list as one fact: its own fields in a sentence, its units in theirs."""
    own = {field: value for field, value in row.items() if field not in _SOURCED}
    said = "; ".join(_said(value) if field == "text" else f"{field} {_said(value)}" for field, value in own.items())
    return Fact(name=name, value=said, unit=row.get("units", row.get("unit", "")), **_source(row))


def _source(row: Table) -> dict[str, str]:
    return {name: str(row[name]) for name in ("source", "date", "confidence", "note") if name in row}


def _model(table: Table) -> Entry:
    """A model's file: its configuration has one source, each published count its own."""
    source = _source(table)
    facts = [Fact(name=name, value=value, **source) for name, value in _flat(table["config"])]
    for count in table.get("published", ()):
        own = {"confidence": table["confidence"]} | _source(count)
        facts.append(
            Fact(name=f"published {count['kind']}", value=_said(count["parameters"]), unit="parameters", **own)
        )
    return Entry(kind="models", id=table["id"], name=table["name"], aliases=tuple(table["aliases"]), facts=tuple(facts))


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(cast("Mapping[str, Any]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _said(value)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_said(each) for each in cast("Iterable[object]", value)) or "none"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
