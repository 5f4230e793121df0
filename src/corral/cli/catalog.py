"""`corral catalog`: what is known of devices, boards, links and so on, each fact with its source; knows no cluster."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from corral.catalog.boards import board
from corral.catalog.describe import KINDS, AnyKind, Entry, listing, search, show
from corral.catalog.devices import DeviceSpec, device
from corral.catalog.engines import engine
from corral.catalog.links import link
from corral.catalog.switches import switch
from corral.cli.console import console, print_json
from corral.errors import BadInput, ExitCode
from corral.units import GIB, format_rate

_CONFIDENCE: Final = {"high": "green", "medium": "white", "low": "yellow", "estimated": "magenta"}
_SHOWN: Final = 40  # characters of a model's architecture names


def run_catalog(words: Sequence[str], *, as_json: bool) -> None:
    """Carry out `list [KIND]`, `search WORDS` or `show ID`; a kind alone lists it, nothing lists the kinds.

    BadInput for anything else; exit status 1 when a search finds nothing.
    """
    action, rest = (words[0], words[1:]) if words else ("list", ())
    if action in KINDS and not rest:
        action, rest = "list", [action]
    if action == "list" and not rest:
        _overview(as_json=as_json)
    elif action == "list" and len(rest) == 1:
        _list(_kind(rest[0]), as_json=as_json)
    elif action == "search" and rest:
        _search(rest, as_json=as_json)
    elif action == "show" and rest:
        _show(" ".join(rest), as_json=as_json)
    else:
        raise BadInput(
            f"`corral catalog {' '.join(words)[:60]}` is no question.",
            f"Ask `list [KIND]`, `search WORDS` or `show ID`; kinds are {', '.join(KINDS)}.",
        )


def _kind(word: str) -> AnyKind:
    for kind in KINDS:
        if word in {kind, _one(kind)}:
            return kind
    raise BadInput(f'"{word[:60]}" is no kind of entry.', f"Kinds are {', '.join(KINDS)}.")


def _one(kind: AnyKind) -> str:
    return kind.removesuffix("es") if kind == "switches" else kind.removesuffix("s")


def _overview(*, as_json: bool) -> None:
    counts = {kind: len(listing(kind)) for kind in KINDS}
    if as_json:
        print_json({"schema": "corral.catalog/1", "kinds": counts})
        return
    table = Table("kind", "entries", box=None, pad_edge=False)
    for kind, count in counts.items():
        table.add_row(kind, str(count))
    console.print(table)
    console.print("`corral catalog list KIND`, `search WORDS` and `show ID` say more.")


def _list(kind: AnyKind, *, as_json: bool) -> None:
    entries = listing(kind)
    if as_json:
        print_json(_document(entries))
        return
    head, row = _COLUMNS[kind]
    table = Table(box=None, pad_edge=False)
    for name in head:
        table.add_column(name, no_wrap=name == "id")
    for entry in entries:
        table.add_row(*(escape(cell) for cell in row(entry)))
    console.print(table)


def _search(words: Sequence[str], *, as_json: bool) -> None:
    found = search(words)
    if as_json:
        print_json(_document(found))
    elif found:
        table = Table("kind", "id", "name", box=None, pad_edge=False)
        for entry in found:
            table.add_row(entry.kind, escape(entry.id), escape(entry.name))
        console.print(table)
    else:
        console.print(f"Nothing in the catalog mentions {escape(' and '.join(words))}.")
    if not found:
        raise SystemExit(int(ExitCode.NO))


def _show(name: str, *, as_json: bool) -> None:
    entries = show(name)
    if as_json:
        print_json(_document(entries))
        return
    for entry in entries:
        _print(entry)


def _print(entry: Entry) -> None:
    """One entry: its facts in a table, and below it the sources that they point to."""
    console.print(f"[bold]{escape(entry.name)}[/] ({_one(entry.kind)} {escape(entry.id)})", soft_wrap=True)
    if entry.aliases:
        console.print(f"also: {escape(', '.join(entry.aliases))}", soft_wrap=True)
    for key, value in entry.properties.items():
        console.print(f"{key}: {escape(value)}", soft_wrap=True)
    sources = list(dict.fromkeys(fact.source for fact in entry.facts))
    table = Table(box=None, pad_edge=False)
    for name in ("fact", "value", "sure", "date", "source"):
        table.add_column(name, no_wrap=name != "value", overflow="fold")
    for fact in entry.facts:
        value = f"{fact.value} {fact.unit}".rstrip() + (f" ({fact.note})" if fact.note else "")
        sure = f"[{_CONFIDENCE.get(fact.confidence, 'white')}]{fact.confidence}[/]"
        table.add_row(escape(fact.name), escape(value), sure, fact.date, f"{sources.index(fact.source) + 1}")
    console.print(table)
    for number, source in enumerate(sources, 1):
        console.print(f"{number:>3}  {escape(source)}", soft_wrap=True)


def _document(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"schema": "corral.catalog/1", "entries": [entry.model_dump(mode="json") for entry in entries]}


def _device_row(entry: Entry) -> tuple[str, ...]:
    spec = device(entry.id)
    rates = (_tera(spec, "fp16"), _tera(spec, "fp8"), _tera(spec, "fp4"))
    memory = f"{spec.memory / GIB:.0f} GiB"
    return (spec.id, spec.name, memory, f"{spec.bandwidth / 1e9:.0f} GB/s", *rates, f"{spec.power_limit:.0f} W")


def _tera(spec: DeviceSpec, number_format: str) -> str:
    rate = {str(name): rate for name, rate in spec.flops.items()}.get(number_format)
    return f"{rate / 1e12:.3g}" if rate else ""


def _board_row(entry: Entry) -> tuple[str, ...]:
    spec = board(entry.id)
    joined = ", ".join(dict.fromkeys(domain.link for domain in spec.domains)) or spec.host
    return spec.id, spec.name, f"{spec.count} x {spec.devices[0]}", joined, _price(spec.price_low, spec.price_high)


def _price(low: float | None, high: float | None) -> str:
    """A range of dollars; one figure where there is one."""
    told = [f"{price:.0f}" for price in (low, high) if price is not None]
    return f"{' to '.join(dict.fromkeys(told))} USD" if told else ""


def _link_row(entry: Entry) -> tuple[str, ...]:
    spec = link(entry.id)
    rdma = "RDMA" if spec.rdma else ""
    achieved = f"{spec.bandwidth / 1e9:.3g} GB/s" if spec.id != "none" else ""
    rated = format_rate(spec.line_rate) if spec.id != "none" else ""
    return spec.id, spec.name, spec.scope, achieved, rated, f"{spec.latency * 1e6:g} us", rdma


def _switch_row(entry: Entry) -> tuple[str, ...]:
    spec = switch(entry.id)
    ports = ", ".join(f"{part.count} x {format_rate(part.speed)}" for part in spec.ports)
    watts = f"{spec.power_max:.0f} W" if spec.power_max else ""
    return spec.id, spec.name, ports, watts, _price(spec.price_low, spec.price_high)


def _engine_row(entry: Entry) -> tuple[str, ...]:
    spec = engine(entry.id)
    return spec.id, spec.name, ", ".join(spec.vendors), ", ".join(spec.parallelism), ", ".join(spec.multi_node)


def _model_row(entry: Entry) -> tuple[str, ...]:
    facts = {fact.name: fact.value for fact in entry.facts}
    total = next((fact.value for fact in entry.facts if fact.name == "published total"), "")
    return entry.id, entry.name, facts.get("architectures", "")[:_SHOWN], total


_COLUMNS: Final[dict[AnyKind, tuple[tuple[str, ...], Callable[[Entry], tuple[str, ...]]]]] = {
    "devices": (("id", "name", "memory", "bandwidth", "fp16", "fp8", "fp4 TFLOPS", "limit"), _device_row),
    "boards": (("id", "name", "devices", "joined by", "price"), _board_row),
    "links": (("id", "name", "joins", "achieved", "rated", "latency", ""), _link_row),
    "switches": (("id", "name", "ports", "at most", "price"), _switch_row),
    "engines": (("id", "name", "runs on", "splits", "over nodes"), _engine_row),
    "models": (("id", "name", "architecture", "parameters"), _model_row),
}
