"""Of two layouts of one model that were both measured on the same machines: how often the faster is ranked first.

    python benchmarks/ranking.py [TABLE.csv ...]

Pairs are rows of one source that differ in how many devices of one kind are used, and how, and in nothing else that
decides speed. Where both measure the rate of one stream that is compared, else that of all streams together.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from statistics import median

from corral.cli.validate import read_table
from corral.planner.speed.judge import compare
from corral.planner.speed.rows import Row

_EQUAL = 1.03  # times as fast: closer than that and the measurement itself decides which was faster


def load_of(row: Row) -> tuple[object, ...]:
    """All that must be equal for two rows to be a pair."""
    case = row.case
    return (
        row.source, row.device, row.engine, case.engine_version, row.model, case.weights, case.kv, case.eager,
        case.prompt, case.cached, case.context, case.output, case.concurrency, case.power_limit,
        case.speculation and case.speculation.method,
    )  # fmt: skip


def layout_of(row: Row) -> tuple[int, ...]:
    """What may differ."""
    split = row.case.split
    return (split.tp, split.pp, split.ep, split.dp, split.nodes)


def runs(rows: list[Row], value: dict[tuple[int, str], float]) -> Iterator[tuple[Row, str, float, float]]:
    """Each layout under each load once: a row of it, the metric, what was measured and what is predicted.

    Rows that differ in nothing that the table states differ in something else, flags or luck: their median counts.
    """
    groups: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        metric = next((m for m in ("decode", "output") if m in row.measured), None)
        if metric is not None:
            groups[load_of(row), layout_of(row), metric].append(row)
    for (_, _, metric), group in groups.items():
        measured, predicted = (
            median(figures)
            for figures in ([row.measured[metric] for row in group], [value[id(row), metric] for row in group])
        )
        yield group[0], metric, measured, predicted


def main() -> None:
    """Print the share by kind of pair, and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", type=Path, default=[Path("measured/measured.csv")])
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    sources: set[str] = set()
    for table in parser.parse_args().tables:
        rows, _ = read_table(table)
        value = {(id(one.row), one.metric): one.value for one in compare(rows)}
        groups: dict[object, list[tuple[Row, float, float]]] = defaultdict(list)
        for row, metric, measured, predicted in runs(rows, value):
            groups[load_of(row), metric].append((row, measured, predicted))
        for group in groups.values():
            for (one, measured, predicted), (other, measured_too, predicted_too) in combinations(group, 2):
                ratio = measured / measured_too
                if 1 / _EQUAL < ratio < _EQUAL:
                    continue
                several = max(one.case.split.nodes, other.case.split.nodes) > 1
                sources.add(one.source)
                for name in ("all", "over nodes" if several else "within a node", one.engine):
                    totals[name][0] += (predicted > predicted_too) == (ratio > 1)
                    totals[name][1] += 1
    print(f"{'':20}{'right':>8}{'pairs':>8}{'share':>8}")
    for name, (right, count) in sorted(totals.items(), key=lambda item: -item[1][1]):
        print(f"{name:20}{right:8}{count:8}{right / count:8.1%}")
    print(f"{len(sources)} sources")
    print(json.dumps({name: {"right": right, "pairs": count} for name, (right, count) in totals.items()}))


if __name__ == "__main__":
    main()
