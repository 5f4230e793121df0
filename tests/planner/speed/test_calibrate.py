"""A user's own runs: one per device, engine and format halves the error on a source that was held out."""

import json
from pathlib import Path
from statistics import median

import pytest

from corral.cli.validate import read_table
from corral.planner.speed.calibrate import Run, calibrate
from corral.planner.speed.coefficients import fitted, prior
from corral.planner.speed.predict import predict

TABLE = Path(__file__).parents[3] / "measured" / "measured.csv"


def test_a_run_moves_what_is_predicted_for_its_combination_only(case):
    before = predict(case()).decode.value
    better = calibrate([Run(case=case(), measured={"decode": before / 2})], fitted())
    assert predict(case(), better).decode.value == pytest.approx(before / 2, rel=0.12)
    elsewhere = case(on="rtx4090")
    assert predict(elsewhere, better).decode.value == predict(elsewhere).decode.value
    assert predict(case(), better).prefill.value == predict(case()).prefill.value


def test_runs_that_agree_count_more_than_one(case):
    target = predict(case()).decode.value / 2
    off = [
        abs(
            predict(case(), calibrate([Run(case=case(), measured={"decode": target})] * n, fitted())).decode.value
            - target
        )
        for n in (1, 4)
    ]
    assert off[1] < off[0]


def test_calibrating_twice_with_the_same_run_changes_little(case):
    run = Run(case=case(), measured={"decode": predict(case()).decode.value * 1.5})
    once = calibrate([run], fitted())
    twice = calibrate([run], once)
    first, second = (predict(case(), c).decode.value for c in (once, twice))
    assert second == pytest.approx(first, rel=0.05)


def test_coefficients_go_to_json_and_back(case):
    made = calibrate([Run(case=case(), measured={"ttft": 1.0})], fitted())
    assert type(made).model_validate(json.loads(made.model_dump_json())) == made


def test_one_run_for_each_combination_halves_the_error_of_what_was_never_seen():
    rows, _ = read_table(TABLE)
    rows = [r for r in rows if r.engine == "llamacpp" and r.case.concurrency == 1 and "decode" in r.measured]
    unseen = prior()  # coefficients that saw no measurement at all
    groups: dict[tuple[str, ...], list] = {}
    for row in rows:
        groups.setdefault((row.source, row.device, row.case.weights, row.model), []).append(row)
    before, after = [], []
    for members in groups.values():
        better = calibrate([Run(case=members[0].case, measured={"decode": members[0].measured["decode"]})], unseen)
        for coefficients, errors in ((unseen, before), (better, after)):
            errors += [abs(predict(r.case, coefficients).decode.value / r.measured["decode"] - 1) for r in members[1:]]
    assert len(before) > 200
    assert median(after) < 0.5 * median(before)
