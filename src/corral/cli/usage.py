"""`corral usage`: what was used, by key, model or day; knows what is counted, not by whom."""

import time
from typing import Any, Final

from rich.table import Table

from corral.cli.console import console, print_json
from corral.cli.moments import back
from corral.errors import BadInput
from corral.store.usage import Counts, UsageRow, UsageStore, day_of
from corral.units import format_seconds

_BYS: Final = ("key", "model", "day")
_HEADINGS: Final = ("requests", "errors", "cancelled", "prompt", "cached", "output", "engine time")


def run_usage(by: str, since: str, key: str, model: str, *, as_json: bool) -> None:
    """Print the sums and their total."""
    if by not in _BYS:
        raise BadInput(f"Usage is not counted by {by!r}.", f"Use one of {', '.join(_BYS)}.")
    day = day_of(back(since, time.time()))
    with UsageStore() as store:
        ids = store.ids(key) if key else None
        if ids == ():
            raise BadInput(
                "There is no key of that name or id.", "`corral keys list --all` shows those that are known."
            )
        rows = store.report(by, since=day, keys=ids, model=model or None)  # pyright: ignore[reportArgumentType] - checked above
    total = _total(rows)
    if as_json:
        print_json(
            {
                "schema": "corral.usage/1",
                "by": by,
                "since": day,
                "rows": [row.model_dump(exclude_none=True) for row in rows],
                "total": total._asdict(),
            }
        )
    elif rows:
        console.print(_table(by, rows, total))
    else:
        console.print(f"Nothing was used since {day}.")


def _total(rows: tuple[UsageRow, ...]) -> Counts:
    total = Counts()
    for row in rows:
        total = total.plus(Counts(*(getattr(row, field) for field in Counts._fields)))
    return total


def _table(by: str, rows: tuple[UsageRow, ...], total: Counts) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(by)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(_label(by, row), *_cells(Counts(*(getattr(row, field) for field in Counts._fields))))
    if len(rows) > 1:
        table.add_row("all", *_cells(total), style="bold")
    return table


def _label(by: str, row: UsageRow) -> str:
    if by == "key":
        return f"{row.name} ({row.key})" if row.name else row.key or "(no key)"
    return (row.model if by == "model" else row.day) or "(none)"


def _cells(counts: Counts) -> tuple[Any, ...]:
    *whole, seconds = counts
    return (*(f"{count:,}" for count in whole), format_seconds(seconds))
