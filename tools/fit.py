"""Fits the speed model's coefficients on `measured/`, judges them by leave-one-source-out, writes what Corral ships.

    python tools/fit.py                 fit, judge, write src/corral/planner/data/speed.json and docs' table
    python tools/fit.py --judge-only    print the leave-one-source-out table and write nothing
    python tools/fit.py --by device     hold out one device at a time instead of one source

Maximum a posteriori: the robust (Huber) error of log(predicted / measured), each source counting as the square root of
its rows, plus the priors of `corral.planner.speed.quantities`. Gauss-Newton with Levenberg's damping. Deterministic.
"""

import argparse
import csv
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from corral.errors import BadInput
from corral.planner.speed.calibrate import BETWEEN, WITHIN
from corral.planner.speed.columns import expected
from corral.planner.speed.load import estimate
from corral.planner.speed.lookup import catalog_names
from corral.planner.speed.quantities import ORDER, QUANTITIES, properties
from corral.planner.speed.ranges import NOVELTIES, Seen, count_runs
from corral.planner.speed.rates import Rates
from corral.planner.speed.rows import METRICS, Metric, Row, read_row
from corral.planner.speed.work import Work, work

ROOT: Final = Path(__file__).parent.parent
TABLES: Final = ("measured/measured.csv", "measured/seeds.csv")
DOCUMENT: Final = "docs/speed-model.md"
SHIPPED: Final = "src/corral/planner/data/speed.json"
HUBER: Final = 0.25  # an error beyond 28 % pulls no harder than one of 28 %
NOISE: Final = 0.1  # of one measurement, as a logarithm
LOOKS: Final = 2
STEP: Final = 1e-3  # of a rate's logarithm, for derivatives
INSIDE: Final = 0.925  # share of errors that a range is made to hold

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """A row of a table with what a fit needs of it."""

    row: Row
    work: Work
    has: Mapping[str, str]
    measured: Mapping[Metric, float]
    columns: tuple[NDArray[np.intp], ...] = ()  # for each rate, the parameters whose sum is its logarithm


def items() -> list[Item]:
    """The rows of the shared table that say what they measured."""
    names = catalog_names()
    found: list[Item] = []
    for table in TABLES:
        with (ROOT / table).open(encoding="utf-8", newline="") as file:
            for line, cells in enumerate(csv.DictReader(file), 2):
                try:
                    row = read_row(line, cells, names)
                except BadInput as error:
                    sys.stderr.write(f"left out: {error}\n")
                    continue
                done = work(row.case)
                found.append(Item(row, done, properties(row.case, done), usable(row, cells)))
    return found


def usable(row: Row, cells: Mapping[str, str]) -> Mapping[Metric, float]:
    """What a row's measured columns may teach: nothing doubtful, no warm TTFT, nothing that contradicts the row."""
    notes = cells.get("notes", "").lower()
    if "doubtful" in notes or "unstated" in notes:
        return {}
    if "rpc" in row.engine and cells.get("devices", "").strip() == "1":
        return {}  # another device took part that the row does not name
    measured = dict(row.measured)
    case = row.case
    if measured.get("decode") is not None and measured.get("decode") == measured.get("prefill"):
        measured.pop("decode")  # a prompt's rate, copied
        measured.pop("output", None)
    if row.conventions.warm or not cells.get("prompt_tokens", "").strip():
        measured.pop("ttft", None)
        measured.pop("prefill", None)
    output, ttft = measured.get("output"), measured.get("ttft")
    if output and ttft and 1000 * case.concurrency * case.output / output < ttft:
        measured.pop("output")  # all were done before the mean first token: some other time was counted
    return measured


def predicted(item: Item, rates: Sequence[float]) -> Mapping[Metric, float]:
    """What the row's columns should hold with these rates."""
    counted = item.row.conventions
    made = estimate(item.row.case, item.work, Rates(*rates), together=counted.together, alone=counted.apart)
    return expected(made, counted)


class Parameters:
    """All parameters by (quantity, "typical" or "property=value"), with their priors."""

    def __init__(self, of: Sequence[Item]) -> None:
        self.names: dict[tuple[str, str], int] = {}
        centres: list[float] = []
        widths: list[float] = []

        def add(key: tuple[str, str], centre: float, width: float) -> int:
            if key not in self.names:
                self.names[key] = len(centres)
                centres.append(centre)
                widths.append(width)
            return self.names[key]

        self.items: list[Item] = []
        for item in of:
            columns: list[NDArray[np.intp]] = []
            for name in ORDER:
                quantity = QUANTITIES[name]
                used = [add((name, "typical"), math.log(quantity.typical), quantity.width)]
                for key, width in quantity.by.items():
                    effect = f"{key}={item.has[key]}"
                    used.append(add((name, effect), quantity.centres.get(effect, 0.0), width))
                columns.append(np.array(used))
            self.items.append(Item(item.row, item.work, item.has, item.measured, tuple(columns)))
        self.matter: dict[int, frozenset[int]] = {}  # by item: the rates that any of its derivatives was not zero for
        self.looks: Counter[int] = Counter()
        self.centres: Vector = np.array(centres)
        self.widths: Vector = np.array(widths)

    def rates(self, at: Vector, item: Item) -> list[float]:
        """A row's rates with these parameters."""
        return [math.exp(at[used].sum()) for used in item.columns]

    def unseen(self, train: Sequence[int]) -> NDArray[np.bool_]:
        """Parameters that no row of the training set has."""
        seen = np.zeros(len(self.centres), dtype=np.bool_)
        for index in train:
            for used in self.items[index].columns:
                seen[used] = True
        return ~seen


def weights(of: Sequence[Item], train: Sequence[int]) -> Vector:
    """Of each measured value: one, and less where a source has more than 25 of a metric: 5 / root of their number."""
    counts = Counter((of[i].row.source, m) for i in train for m in of[i].measured)
    return np.array([min(1.0, 5.0 * counts[of[i].row.source, m] ** -0.5) for i in train for m in of[i].measured])


def fit(given: Parameters, train: Sequence[int], start: Vector, most: int = 10) -> Vector:
    """The most probable parameters given these rows."""
    at = start.copy()
    weight = weights(given.items, train)
    damping = 0.1

    def errors(here: Vector) -> Vector:
        return np.array(
            [
                math.log(max(values[m], 1e-300) / v)
                for i in train
                for values in (predicted(given.items[i], given.rates(here, given.items[i])),)
                for m, v in given.items[i].measured.items()
            ]
        )

    def cost(error: Vector, here: Vector) -> float:
        size = np.abs(error)
        robust = np.where(size < HUBER, 0.5 * error**2, HUBER * (size - 0.5 * HUBER))
        return float((weight * robust).sum() / NOISE**2 + 0.5 * (((here - given.centres) / given.widths) ** 2).sum())

    error = errors(at)
    now = cost(error, at)
    for _ in range(most):
        curvature, slope = _normal(given, train, at, error, weight)
        for _ in range(7):
            step = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), -slope).clip(-0.5, 0.5)
            tried = at + step
            tried_error = errors(tried)
            then = cost(tried_error, tried)
            if then < now:
                break
            damping *= 6
        else:
            break
        done = now - then < 1e-3 * now
        at, error, now = tried, tried_error, then
        damping = max(damping / 4, 1e-5)
        if done:
            break
    return at


def _normal(
    given: Parameters, train: Sequence[int], at: Vector, error: Vector, weight: Vector
) -> tuple[NDArray[np.float64], Vector]:
    """Gauss-Newton's matrix and gradient; derivatives by each rate's logarithm, chained to the parameters."""
    curvature = np.diag(1.0 / given.widths**2)
    slope = (at - given.centres) / given.widths**2
    place = 0
    for index in train:
        item = given.items[index]
        if not item.measured:
            continue
        rates = given.rates(at, item)
        base = predicted(item, rates)
        moved = np.zeros((len(item.measured), len(rates)))
        # Most rates do not touch an item: after two looks at all of them only those that did are moved.
        known = given.looks[index] >= LOOKS
        for j, rate in enumerate(rates):
            if known and j not in given.matter[index]:
                continue
            other = predicted(item, [*rates[:j], rate * math.exp(STEP), *rates[j + 1 :]])
            for k, metric in enumerate(item.measured):
                moved[k, j] = math.log(other[metric] / base[metric]) / STEP
        given.looks[index] += 1
        touched = frozenset(int(j) for j in np.flatnonzero(np.abs(moved).max(axis=0) > 1e-7))
        given.matter[index] = given.matter.get(index, frozenset()) | touched
        for k in range(len(item.measured)):
            away = error[place]
            pull = weight[place] * min(1.0, HUBER / max(1e-9, abs(away))) / NOISE**2
            place += 1
            used = [j for j in range(len(rates)) if abs(moved[k, j]) > 1e-7]
            if used:
                where = np.concatenate([item.columns[j] for j in used])
                value = np.concatenate([np.full(len(item.columns[j]), moved[k, j]) for j in used])
                slope[where] += pull * away * value
                curvature[np.ix_(where, where)] += pull * np.outer(value, value)
    return curvature, slope


@dataclass(frozen=True)
class Judged:
    """A row predicted by coefficients that its group took no part in, and how new it was to them."""

    item: Item
    group: str
    novelty: int
    values: Mapping[Metric, float]


def _held_out(job: tuple[Parameters, Vector, str, list[int]]) -> list[tuple[int, int, Mapping[Metric, float]]]:
    given, start, _, held = job
    out = set(held)
    train = [i for i in range(len(given.items)) if i not in out]
    unseen = given.unseen(train)
    at = fit(given, train, np.where(unseen, given.centres, start), most=6)
    at = np.where(unseen, given.centres, at)
    seen = count_runs([given.items[i].row.case for i in train if given.items[i].measured])
    return [
        (i, int(seen.novelty(given.items[i].row.case)), predicted(given.items[i], given.rates(at, given.items[i])))
        for i in held
    ]


def judge(given: Parameters, start: Vector, group: Callable[[Item], str], jobs: int) -> list[Judged]:
    """Every row predicted by a fit without its group."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(given.items):
        groups[group(item)].append(index)
    with ProcessPoolExecutor(jobs) as pool:
        done = list(pool.map(_held_out, [(given, start, name, held) for name, held in groups.items()]))
    by_row = {i: (novelty, values) for part in done for i, novelty, values in part}
    return [Judged(given.items[i], group(given.items[i]), *by_row[i]) for i in sorted(by_row)]


def bounds(of: Sequence[Judged]) -> dict[str, tuple[tuple[float, float], ...]]:
    """For each metric, by novelty, the logarithms of measured / predicted that hold `INSIDE` of the errors.

    A stratum counts with those of more novelty when it has few errors, and no range is narrower than one of less
    novelty.
    """
    made: dict[str, tuple[tuple[float, float], ...]] = {}
    for metric in METRICS:
        errors = [
            (j.novelty, math.log(j.item.measured[metric] / j.values[metric])) for j in of if metric in j.item.measured
        ]
        ranges: list[tuple[float, float]] = []
        for novelty in NOVELTIES:
            own = [e for n, e in errors if n == novelty]
            if len(own) < 100:
                own = [e for n, e in errors if n >= novelty]
            if len(own) < 40:
                own = [e for _, e in errors]
            low, high = np.quantile(own, [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
            if ranges:
                low, high = min(low, ranges[-1][0]), max(high, ranges[-1][1])
            ranges.append((round(float(low), 4), round(float(high), 4)))
        made[metric] = tuple(ranges)
    return made


def inside(of: Sequence[Judged]) -> dict[int, dict[Metric, bool]]:
    """Whether each measured value lies in the range made of the other groups' errors."""
    found: dict[int, dict[Metric, bool]] = {}
    groups = {j.group for j in of}
    others = {g: bounds([j for j in of if j.group != g]) for g in groups}
    for index, j in enumerate(of):
        found[index] = {}
        for metric, value in j.item.measured.items():
            low, high = others[j.group][metric][j.novelty]
            found[index][metric] = low <= math.log(value / j.values[metric]) <= high
    return found


def table(of: Sequence[Judged]) -> list[str]:
    """Markdown: by group and metric, rows, median and 90th percentile of the absolute error, share inside."""
    within = inside(of)
    lines = ["| held out | metric | rows | median | p90 | inside |", "|---|---|---|---|---|---|"]
    for name in ["all", *sorted({j.group for j in of})]:
        for metric in METRICS:
            chosen = [
                (abs(j.values[metric] / j.item.measured[metric] - 1), within[i][metric])
                for i, j in enumerate(of)
                if metric in j.item.measured and name in {"all", j.group}
            ]
            if chosen:
                errors = [e for e, _ in chosen]
                lines.append(
                    f"| {name} | {metric} | {len(errors)} | {np.median(errors):.1%} | {np.quantile(errors, 0.9):.1%} "
                    f"| {sum(w for _, w in chosen) / len(chosen):.0%} |"
                )
    return lines


def ranking(of: Sequence[Judged]) -> dict[str, tuple[int, int]]:
    """Of pairs of layouts of one model under one load, measured by one source: how often the faster is put first.

    A pair differs in its degrees and the devices used, and in nothing else; runs of one layout count as their median.
    Pairs within 3 % of each other do not count. By engine, and over all.
    """
    groups: dict[tuple[object, ...], dict[tuple[int, ...], list[Judged]]] = defaultdict(lambda: defaultdict(list))
    for j in of:
        row, case = j.item.row, j.item.row.case
        s = case.split
        for metric in ("decode", "output"):
            if metric in j.item.measured:
                load = (metric, case.prompt, case.cached, case.output, case.concurrency, case.power_limit)
                key = (row.source, row.device, row.engine, row.model, case.weights, case.kv, *load)
                groups[key][s.tp, s.pp, s.ep, s.dp, s.nodes].append(j)
    right: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for key, layouts in groups.items():
        metric: Metric = key[6]  # type: ignore[assignment]
        found = [
            (np.median([j.item.measured[metric] for j in runs]), np.median([j.values[metric] for j in runs]))
            for runs in layouts.values()
        ]
        for n, (measured, value) in enumerate(found):
            for other_measured, other_value in found[n + 1 :]:
                if abs(math.log(measured / other_measured)) >= 0.03:
                    for name in ("all", str(key[2])):
                        pairs[name] += 1
                        right[name] += bool((measured > other_measured) == (value > other_value))
    return {name: (right[name], pairs[name]) for name in sorted(pairs)}


def calibrated(of: Sequence[Judged]) -> tuple[float, float, int]:
    """Median errors of single streams' decode on sources held out: before, and after one run of each combination.

    A combination is a device, engine, format and model of one source; its first run corrects the others as
    `corral.planner.speed.calibrate` does.
    """
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for j in of:
        row = j.item.row
        if "decode" in j.item.measured and row.case.concurrency == 1:
            key = (row.source, row.device, row.engine, j.item.has["format"], row.model)
            groups[key].append(math.log(j.item.measured["decode"] / j.values["decode"]))
    kept = BETWEEN**2 / (BETWEEN**2 + WITHIN**2)
    before = [abs(math.expm1(-error)) for errors in groups.values() for error in errors[1:]]
    after = [abs(math.expm1(kept * errors[0] - error)) for errors in groups.values() for error in errors[1:]]
    return float(np.median(before)), float(np.median(after)), len(before)


def summary(judged: Sequence[Judged]) -> list[str]:
    """Markdown: how layouts are ranked, and what one run of one's own is worth."""
    lines = ["| faster of two layouts put first | right | pairs |", "|---|---|---|"]
    lines += [f"| {name} | {right / pairs:.0%} | {pairs} |" for name, (right, pairs) in ranking(judged).items()]
    before, after, runs = calibrated(judged)
    sentence = (
        f"Decode of one stream, {runs} runs of sources held out: median error {before:.1%}; after one run of the same "
        f"device, engine, format and model {after:.1%}."
    )
    return [*lines, "", sentence]


def with_errors(document: str, text: str) -> str:
    """The document with this text between its two marks."""
    start, end = "<!-- errors: written by `make fit` -->\n", "<!-- end of errors -->"
    before, _, rest = document.partition(start)
    return f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"


def shipped(given: Parameters, at: Vector, judged: Sequence[Judged], seen: Seen) -> dict[str, object]:
    """The document that Corral reads: coefficients, ranges, and where they come from."""
    effects: dict[str, dict[str, float]] = {name: dict(QUANTITIES[name].centres) for name in ORDER}
    typical: dict[str, float] = {}
    for (name, key), index in given.names.items():
        if key == "typical":
            typical[name] = round(float(at[index]), 5)
        elif abs(at[index]) >= 5e-4 or key in effects[name]:
            effects[name][key] = round(float(at[index]), 4)
    hashes = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in TABLES}
    return {
        "schema": "corral.speed-coefficients/1",
        "provenance": {
            "tables": hashes,
            "rows": len(given.items),
            "sources": sorted({item.row.source for item in given.items}),
            "command": "make fit",
        },
        "coefficients": {"typical": typical, "effects": effects},
        "ranges": {"seen": {"runs": dict(sorted(seen.runs.items()))}, "bounds": bounds(judged)},
    }


def main() -> None:
    """Fit, judge, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge-only", action="store_true")
    parser.add_argument("--by", choices=("source", "device", "engine", "model"), default="source")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    given = Parameters(items())
    everything = list(range(len(given.items)))
    at = fit(given, everything, given.centres)
    keys: dict[str, Callable[[Item], str]] = {
        "source": lambda item: item.row.source,
        "device": lambda item: item.row.device,
        "engine": lambda item: item.has["engine"],
        "model": lambda item: item.row.model,
    }
    judged = judge(given, at, keys[asked.by], asked.jobs)
    text = "\n".join((*table(judged), "", *summary(judged))) + "\n"
    sys.stdout.write(text)
    if not asked.judge_only and asked.by == "source":
        seen = count_runs([item.row.case for item in given.items if item.measured])
        target = ROOT / SHIPPED
        target.parent.mkdir(exist_ok=True)
        document = ROOT / DOCUMENT
        document.write_text(with_errors(document.read_text("utf-8"), text), "utf-8")
        target.write_text(json.dumps(shipped(given, at, judged, seen), indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
