"""Several plans side by side, a line each; knows no search."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from corral.cli.plan.words import duration, money, number, print_table, tokens, watts
from corral.planner.plan import Plan
from corral.planner.search.engines import title


def show_compared(plans: Sequence[Plan], out: Console) -> None:
    """Print a table of the best of each plan; one that has none says so."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("model", "cluster", "best", "weights"):
        table.add_column(name, no_wrap=True)
    many = any(plan.workload.concurrency > 1 for plan in plans)
    columns = ("tok/s", "range", *(("all",) if many else ()), "TTFT", "context", "power", "a month")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    fastest = max((plan.candidates[0].speed.decode.value for plan in plans if plan.candidates), default=0.0)
    for plan in plans:
        if not plan.candidates:
            table.add_row(plan.title, plan.cluster, "[red]does not fit[/]")
            continue
        best = plan.candidates[0]
        decode = best.speed.decode
        table.add_row(
            plan.title,
            plan.cluster,
            f"{title(best.engine)} {best.layout}, {len(best.nodes)} node{'s' if len(best.nodes) > 1 else ''}",
            best.weights,
            f"[bold green]{number(decode.value)}[/]" if decode.value == fastest else number(decode.value),
            f"{number(decode.low)} to {number(decode.high)}",
            *((number(best.speed.output.value),) if many else ()),
            duration(best.speed.ttft.value),
            tokens(best.longest_context),
            watts(best.power.decode),
            money(plan.money.month_busy, plan.money.currency) if plan.money else "",
        )
    print_table(table, out)
