"""Figures of a plan as people read them, and tables that fit where they are printed; knows no plan's making."""

from typing import Final

from rich.console import Console
from rich.table import Table

from corral.planner.plan import Candidate
from corral.planner.search.engines import title
from corral.planner.speed.values import Prediction

_WIDE: Final = 240


def print_table(table: Table, out: Console) -> None:
    """Print a table; into a file or a pipe as wide as it is, not as the terminal that is not there."""
    before = out.width
    if not out.is_terminal:
        out.width = max(before, _WIDE)
    out.print(table)
    out.width = before


def number(value: float) -> str:
    """Three significant digits, and thousands set apart: 0.824, 5.81, 42.3, 1,380."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value / 10**digits) * 10**digits:,}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def rate(prediction: Prediction) -> tuple[str, str]:
    """A rate and its range."""
    return f"{number(prediction.value)} tok/s", f"{number(prediction.low)} to {number(prediction.high)}"


def duration(seconds: float) -> str:
    """Seconds where they are read as such, else milliseconds or minutes."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{number(seconds)} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def delay(prediction: Prediction) -> tuple[str, str]:
    """A time and its range."""
    return duration(prediction.value), f"{duration(prediction.low)} to {duration(prediction.high)}"


def watts(value: float) -> str:
    """Whole watts; from 10 kW on kilowatts."""
    return f"{value:,.0f} W" if value < 10_000 else f"{value / 1000:.1f} kW"


def tokens(count: int) -> str:
    """A number of tokens, thousands set apart."""
    return f"{count:,}"


def percent(share: float) -> str:
    """Whole per cent."""
    return f"{share * 100:.0f} %"


def where(candidate: Candidate) -> str:
    """The nodes of a candidate: by name where they are few, else how many."""
    nodes = candidate.nodes
    if len(nodes) <= 3:
        return ", ".join(nodes)
    return f"{len(nodes)} nodes ({nodes[0]} to {nodes[-1]})" if len(nodes) < 17 else f"{len(nodes)} nodes"


def way(candidate: Candidate) -> str:
    """Engine, layout and format: "vLLM, tp8, awq-int4 weights"."""
    cache = "" if candidate.kv == "auto" else f", {candidate.kv} cache"
    return f"{title(candidate.engine)}, {candidate.layout}, {candidate.weights} weights{cache}"


def money(amount: float, currency: str) -> str:
    """An amount with two digits that count."""
    return f"{amount:,.0f} {currency}" if amount >= 100 else f"{amount:.2f} {currency}"
