"""Why a plan is as it is: where the time goes, what other links and power limits would do, what was assumed."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corral.cli.plan.words import duration, number, percent, print_table, watts
from corral.planner.plan import Plan
from corral.planner.reasons import sentence, shares

_NOTICED = 0.02  # of a step's time; less is not worth a line


def show_why(plan: Plan, out: Console) -> None:
    """Print the reasons behind the first candidate."""
    best = plan.candidates[0]
    out.print()
    for phase, what in (("decode", "A step of generating"), ("prefill", "Reading the prompt")):
        parts = shares(best.speed, "decode" if phase == "decode" else "prefill")
        if parts:
            whole = sum(part[2] for part in parts)
            out.print(f"[bold]{what}[/] takes {duration(whole)}: {escape(sentence(parts))}.", soft_wrap=True)
            print_table(_terms(plan, phase, whole), out)
            waiting = best.speed.tpot.value - whole
            if phase == "decode" and waiting > _NOTICED * whole:
                out.print(f"Besides, each token waits {duration(waiting)} on average while prompts of others are read.")
    _links(plan, out)
    _limits(plan, out)
    for heading, sentences in (
        ("Assumed", plan.assumptions),
        ("Not tried", tuple(f"{refusal.what}: {refusal.why}" for refusal in plan.refused)),
    ):
        if sentences:
            out.print(f"[bold]{heading}[/]")
            for line in sentences:
                out.print(f"  {escape(line)}", soft_wrap=True)
    out.print(f"[dim]The model's architecture: {escape(plan.source)}.[/]", soft_wrap=True)


def _terms(plan: Plan, phase: str, whole: float) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right", style="dim")
    terms = [term for term in plan.candidates[0].speed.terms if term.phase == phase and term.seconds > whole * 1e-3]
    for term in sorted(terms, key=lambda term: -term.seconds):
        table.add_row(f"  {escape(term.name)}", percent(term.seconds / whole), _short(term.seconds))
    return table


def _short(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else duration(seconds)


def _links(plan: Plan, out: Console) -> None:
    if not plan.interconnect:
        return
    out.print("[bold]What joins the nodes decides[/]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("  link", f"{plan.candidates[0].layout}, tok/s", "talk", "TTFT", "best", "tok/s"):
        words = heading in {"  link", "best"}
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    for cost in plan.interconnect:
        nodes = f"{cost.best_nodes} nodes" if cost.best_nodes > 1 else "1 node"
        table.add_row(
            f"  {escape(cost.title)}",
            number(cost.decode),
            percent(cost.communication),
            duration(cost.ttft),
            f"{cost.best_layout}, {nodes}",
            number(cost.best_decode),
        )
    print_table(table, out)


def _limits(plan: Plan, out: Console) -> None:
    if not plan.limits:
        return
    out.print("[bold]A power limit for each device[/]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("  limit", "one stream", "prompts", "generating", "at most", "Wh for 1,000"):
        table.add_column(name, justify="right", no_wrap=True)
    for effect in plan.limits:
        table.add_row(
            f"  {watts(effect.limit)}",
            f"{number(effect.decode)} tok/s",
            f"{number(effect.prefill)} tok/s",
            watts(effect.watts),
            watts(effect.most_watts),
            number(effect.wh_per_1000),
        )
    print_table(table, out)
