"""The plan on a terminal, readable in ten seconds: the choice, memory as bars, the other ways, what to know."""

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from corral.cli.plan.words import delay, duration, money, number, percent, print_table, rate, tokens, watts, way, where
from corral.planner.plan import Candidate, Plan, Rank
from corral.planner.search.engines import title
from corral.units import GIB

_BAR: Final = 30
_PARTS: Final = (("weights", "blue"), ("kv cache", "green"), ("state", "cyan"), ("activations", "magenta"),
                 ("engine", "yellow"))  # fmt: skip


def show(plan: Plan, out: Console) -> None:
    """Print a plan that has candidates."""
    best = plan.candidates[0]
    out.print(f"[bold]{escape(plan.title)}[/] on {escape(plan.cluster)}: {escape(plan.machines)}", soft_wrap=True)
    place = where(best)
    link = f" over {best.links[-1]}" if best.links else ""
    out.print(f"  [bold green]{escape(way(best))}[/] on {escape(place)}{link}", soft_wrap=True)
    out.print()
    print_table(_figures(plan, best), out)
    out.print()
    _memory(best, out)
    if len(plan.candidates) > 1:
        out.print()
        print_table(_others(plan), out)
    out.print()
    _notes(plan, out)


def _figures(plan: Plan, best: Candidate) -> Table:
    work, speed, power = plan.workload, best.speed, best.power
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_row("  one stream", *rate(speed.decode), f"after {tokens(work.prompt)} tokens")
    table.add_row("  first token", *delay(speed.ttft), f"of {tokens(work.prompt)} tokens")
    table.add_row("  prompts", *rate(speed.prefill), "")
    if work.concurrency > 1:
        table.add_row("  all streams", *rate(speed.output), f"{work.concurrency} requests at once")
    energy = f"{number(power.wh_per_1000)} Wh for 1,000 tokens"
    table.add_row("  power", watts(power.decode), f"{watts(power.idle)} to {watts(power.prefill)}", energy)
    if plan.money is not None:
        bill, currency = plan.money, plan.money.currency
        idle = f"{money(bill.month_idle, currency)} idle"
        table.add_row("  a month", money(bill.month_busy, currency), idle, f"at {bill.per_kwh:g} {currency} a kWh")
    held = f"or {tokens(best.most_requests)} requests of {tokens(work.context)}"
    table.add_row("  context", tokens(best.longest_context), f"{work.concurrency} at once", held)
    return table


def _memory(best: Candidate, out: Console) -> None:
    """One bar a node, of its fullest device; equal neighbours together."""
    plain = not (out.encoding or "").lower().startswith("utf")
    rows = [(node, max(ranks, key=lambda rank: rank.total), len(ranks)) for node, ranks in _by_node(best)]
    bars = [list(found) for _, found in groupby(rows, key=lambda row: (_held(row[1]), row[2]))]
    labels = [found[0][0] if len(found) == 1 else f"{found[0][0]} to {found[-1][0]}" for found in bars]
    width = max(len(label) for label in labels) + 2
    for label, ((_, rank, devices), *_rest) in zip(labels, bars, strict=True):
        each = f" of each of {devices} devices" if devices > 1 else ""
        line = Text("  ")
        line.append(f"{label:<{width}}")
        line.append_text(_bar(rank, plain=plain))
        total, parts = _held(rank)
        line.append(f"  {total}{each}: ")
        line.append(parts, style="dim")
        out.print(line, soft_wrap=True)


def _held(rank: Rank) -> tuple[str, str]:
    """What a rank holds of what it may, and the parts of it that count."""
    parts = ", ".join(f"{share.name} {share.bytes / GIB:.1f}" for share in rank.holds if share.bytes >= GIB // 20)
    return f"{rank.total / GIB:.1f} of {rank.usable / GIB:.1f} GiB", parts or "next to nothing"


def _by_node(best: Candidate) -> Iterator[tuple[str, list[Rank]]]:
    for node in best.nodes:
        yield node, [rank for rank in best.ranks if rank.node == node]


def _bar(rank: Rank, *, plain: bool) -> Text:
    bar, filled = Text(), 0
    so_far = 0
    for name, colour in _PARTS:
        so_far += sum(share.bytes for share in rank.holds if share.name == name)
        upto = min(_BAR, round(so_far / rank.usable * _BAR))
        bar.append(("#" if plain else "█") * (upto - filled), style=colour)
        filled = max(filled, upto)
    bar.append(("." if plain else "░") * (_BAR - filled), style="dim")
    return bar


def _others(plan: Plan) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("  other ways", "engine", "weights"):
        table.add_column(name, no_wrap=True)
    many = plan.workload.concurrency > 1
    for name in ("nodes", "tok/s", *(("all",) if many else ()), "TTFT", "power", "context"):
        table.add_column(name, justify="right", no_wrap=True)
    for other in plan.candidates[1:]:
        speed = other.speed
        table.add_row(
            f"  {other.layout}",
            title(other.engine),
            other.weights,
            str(len(other.nodes)),
            number(speed.decode.value),
            *((number(speed.output.value),) if many else ()),
            duration(speed.ttft.value),
            watts(other.power.decode),
            tokens(other.longest_context),
        )
    return table


def _notes(plan: Plan, out: Console) -> None:
    for warning in plan.warnings:
        out.print(f"  [bold yellow]![/] {escape(warning)}", soft_wrap=True)
    for load in plan.circuits:
        if load.headroom >= 0:
            out.print(
                f"  circuit {escape(load.circuit)}: {watts(load.watts)} of {watts(load.continuous)} that may be drawn"
                f" for hours, {percent(load.headroom / load.continuous)} left",
                soft_wrap=True,
            )
    for sentence in plan.advice:
        out.print(f"  [bold]>[/] {escape(sentence)}", soft_wrap=True)
    basis = plan.candidates[0].speed.decode.basis
    out.print(
        f"  [dim]{plan.fitting} of {plan.considered} layouts fit. Ranges should hold nine times in ten:"
        f" {escape(basis)}.[/]",
        soft_wrap=True,
    )
