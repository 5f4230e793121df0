"""`corral validate`: how well the speed model predicts a table of measurements; knows files and tables, no formula."""

import csv
import io
from pathlib import Path
from typing import Final

from rich.markup import escape
from rich.table import Table

from corral.cli.console import console, print_json
from corral.errors import BadInput
from corral.planner.speed.judge import MetricErrors, NotCovered, Validation, compare, validation
from corral.planner.speed.lookup import catalog_names
from corral.planner.speed.rows import COLUMNS, METRICS, REQUIRED, Row, read_row

_LARGEST: Final = 64 * 2**20  # bytes; a larger file is no table of runs


def run_validate(path: str, *, as_json: bool) -> None:
    """Predict each row of a table and print the errors. Raises BadInput for a file that is no such table."""
    rows, failed = read_table(Path(path))
    report = validation(rows, failed, compare(rows))
    if as_json:
        print_json(report.model_dump(mode="json", by_alias=True))
        return
    _print(report)


def read_table(path: Path) -> tuple[list[Row], list[NotCovered]]:
    """The rows of a CSV file that can be predicted, and why the others cannot."""
    cells = _cells(path)
    names = catalog_names()
    rows: list[Row] = []
    failed: list[NotCovered] = []
    for line, row in cells:
        try:
            rows.append(read_row(line, row, names))
        except BadInput as error:
            failed.append(NotCovered(line=line, reason=f"{error.cause} {error.remedy}"))
    if not rows:
        raise BadInput(f"No row of {path} can be predicted: {failed[0].reason}", "Correct the rows, and try again.")
    return rows, failed


def _cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Lines of the file by column, with their numbers."""
    try:
        reader = csv.DictReader(io.StringIO(_content(path).decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = header
        _check_header(path, header)
        lines = [
            (reader.line_num, {name: value or "" for name, value in row.items() if isinstance(name, str)})
            for row in reader
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} is no CSV table: {error}.", "Save it as UTF-8 CSV, with commas.") from None
    if not lines:
        raise BadInput(f"{path} holds no row.", "Give one run a row below the line with the columns' names.")
    return lines


def _content(path: Path) -> bytes:
    """The whole file, or no more than a table may have of one that never ends."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "Give the path of a CSV file.") from None
    if len(content) > _LARGEST:
        raise BadInput(f"{path} is larger than {_LARGEST // 2**20} MiB.", "Give a table of runs, one a row.")
    return content


def _check_header(path: Path, header: list[str]) -> None:
    wanted = "Its columns are those of measured/README.md: " + ", ".join((*REQUIRED, *COLUMNS.values())) + " and more."
    if not any(header):
        raise BadInput(f"{path} is empty.", wanted)
    for separator, called in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and header[0].count(separator) >= len(REQUIRED):
            raise BadInput(f"The columns of {path} are separated by {called}.", "Save it as UTF-8 CSV, with commas.")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise BadInput(f"{path} lacks the column {missing[0]}.", wanted)
    if not any(column in header for column in COLUMNS.values()):
        raise BadInput(f"{path} has no measured column.", wanted)
    if len(set(header)) != len(header):
        raise BadInput(f"{path} names a column twice.", "Name each column once.")


def _print(report: Validation) -> None:
    console.print(f"{report.rows} rows, {report.covered} of them predicted ({report.covered / report.rows:.1%}).")
    if report.warm:
        console.print(f"{report.warm} values of warm prompts are set aside: their notes tell of a prefix cache.")
    table = Table(box=None, pad_edge=False)
    for name in ("", "rows", "median error", "p90 error", "inside range"):
        table.add_column(name, justify="left" if not name else "right")
    for metric in METRICS:
        _row(table, metric, report.metrics[metric])
    for title, groups in (("device", report.by_device), ("engine", report.by_engine), ("link", report.by_link)):
        table.add_row("")
        for name, metrics in groups.items():
            for metric in METRICS:
                _row(table, f"{title} {name}: {metric}", metrics[metric])
    console.print(table)
    _print_rows(report)


def _print_rows(report: Validation) -> None:
    console.print("\nLargest errors:")
    for one in report.worst:
        console.print(
            f"  line {one.line} ({one.row}) {one.metric}: measured {one.measured:.4g}, predicted {one.predicted:.4g} "
            f"[{one.low:.4g} to {one.high:.4g}] - {one.device}, {one.engine}, {one.model}",
            markup=False,
        )
    for missing in report.not_covered[:10]:
        console.print(f"  not predicted: {missing.reason}", markup=False)
    if len(report.not_covered) > 10:
        console.print(f"  and {len(report.not_covered) - 10} more")


def _row(table: Table, name: str, errors: MetricErrors) -> None:
    if not errors.n and ":" in name:
        return

    def share(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    table.add_row(escape(name), str(errors.n), share(errors.median_ape), share(errors.p90_ape), share(errors.in_range))
