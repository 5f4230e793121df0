"""Sets predictions beside what a table measured: errors and coverage; knows no file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from corral.planner.speed.coefficients import Coefficients, fitted, rates
from corral.planner.speed.columns import expected
from corral.planner.speed.load import estimate
from corral.planner.speed.ranges import Ranges, fitted_ranges
from corral.planner.speed.rows import METRICS, Metric, Row
from corral.planner.speed.work import work
from corral.values import Value


class MetricErrors(Value):
    """Absolute errors |predicted / measured - 1| of one metric, as fractions; None without a row."""

    n: int
    median_ape: float | None = None
    p90_ape: float | None = None
    in_range: float | None = None  # share of measured values inside the stated range


class WorstRow(Value):
    """One of the largest errors, in the column's unit."""

    row: str
    line: int
    metric: Metric
    device: str
    engine: str
    model: str
    measured: float
    predicted: float
    low: float
    high: float
    ape: float


class NotCovered(Value):
    """A row that could not be predicted, and why."""

    line: int
    reason: str


class Validation(Value):
    """What `corral validate` found."""

    schema_: Literal["corral.validation/1"] = Field(default="corral.validation/1", alias="schema")
    rows: int
    covered: int
    metrics: Mapping[Metric, MetricErrors]
    by_device: Mapping[str, Mapping[Metric, MetricErrors]]
    by_engine: Mapping[str, Mapping[Metric, MetricErrors]]
    by_link: Mapping[str, Mapping[Metric, MetricErrors]]
    worst: tuple[WorstRow, ...]
    not_covered: tuple[NotCovered, ...]
    warm: int  # TTFTs and prefill rates set aside: the prefix cache had answered


@dataclass(frozen=True, slots=True)
class Compared:
    """One measured value beside its prediction, in the column's unit."""

    row: Row
    metric: Metric
    measured: float
    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """|predicted / measured - 1|."""
        return abs(self.value / self.measured - 1.0)


def compare(
    rows: Iterable[Row], coefficients: Coefficients | None = None, ranges: Ranges | None = None
) -> list[Compared]:
    """Each judged value of each row beside its prediction. A warm row's TTFT and prefill rate are not judged."""
    chosen, within = coefficients or fitted(), ranges or fitted_ranges()
    found: list[Compared] = []
    for row in rows:
        values = predicted(row, chosen)
        novelty = within.seen.novelty(row.case)
        for metric, measured in row.measured.items():
            if row.conventions.warm and metric in {"ttft", "prefill"}:
                continue
            low, high = within.factors(metric, novelty)
            value = values[metric]
            found.append(Compared(row, metric, measured, value, value * low, value * high))
    return found


def predicted(row: Row, coefficients: Coefficients) -> Mapping[Metric, float]:
    """What the row's measured columns should hold. The measured ones are not looked at."""
    done = work(row.case)
    how = row.conventions
    made = estimate(row.case, done, rates(coefficients, row.case, done), together=how.together, alone=how.apart)
    return expected(made, how)


def validation(rows: Sequence[Row], failed: Sequence[NotCovered], compared: Sequence[Compared]) -> Validation:
    """The report over a whole table: `rows` were read, `failed` were not."""
    groups: dict[str, dict[str, list[Compared]]] = {"device": {}, "engine": {}, "link": {}}
    for one in compared:
        for name, of in (("device", one.row.device), ("engine", one.row.engine), ("link", one.row.link)):
            groups[name].setdefault(of, []).append(one)
    worst = sorted(compared, key=lambda one: one.error, reverse=True)[:10]
    return Validation(
        rows=len(rows) + len(failed),
        covered=len(rows),
        metrics=_errors(compared),
        by_device={name: _errors(of) for name, of in sorted(groups["device"].items())},
        by_engine={name: _errors(of) for name, of in sorted(groups["engine"].items())},
        by_link={name: _errors(of) for name, of in sorted(groups["link"].items())},
        worst=tuple(
            WorstRow(
                row=one.row.name,
                line=one.row.line,
                metric=one.metric,
                device=one.row.device,
                engine=one.row.engine,
                model=one.row.model,
                measured=one.measured,
                predicted=one.value,
                low=one.low,
                high=one.high,
                ape=one.error,
            )
            for one in worst
        ),
        not_covered=tuple(failed),
        warm=sum(1 for row in rows if row.conventions.warm for m in row.measured if m in {"ttft", "prefill"}),
    )


def _errors(compared: Sequence[Compared]) -> Mapping[Metric, MetricErrors]:
    found: dict[Metric, MetricErrors] = {}
    for metric in METRICS:
        chosen = [one for one in compared if one.metric == metric]
        errors = sorted(one.error for one in chosen)
        inside = sum(1 for one in chosen if one.low <= one.measured <= one.high)
        found[metric] = (
            MetricErrors(
                n=len(errors),
                median_ape=quantile(errors, 0.5),
                p90_ape=quantile(errors, 0.9),
                in_range=inside / len(errors),
            )
            if errors
            else MetricErrors(n=0)
        )
    return found


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of ordered values lies, between two of them in proportion."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
