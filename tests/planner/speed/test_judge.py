"""The report over a table: errors in the columns' units, coverage, and what is set aside."""

import pytest

from corral.planner.speed.judge import NotCovered, compare, quantile, validation
from corral.planner.speed.lookup import catalog_names
from corral.planner.speed.rows import read_row


def read(**cells):
    given = {
        "device": "rtx3090",
        "engine": "llamacpp",
        "model": "llama-3.1-8b",
        "quant": "q4_k_m",
        "context_tokens": "0",
    }
    return read_row(2, given | {name: str(value) for name, value in cells.items()}, catalog_names())


def test_predictions_do_not_look_at_what_was_measured():
    one, other = (compare([read(decode_tok_s=value)])[0].value for value in (1.0, 1000.0))
    assert one == other


def test_an_error_is_predicted_over_measured_in_the_columns_unit():
    first = compare([read(decode_tok_s=1.0)])[0].value
    report = validation([read(decode_tok_s=first / 2)], [], compare([read(decode_tok_s=first / 2)]))
    assert report.metrics["decode"].median_ape == pytest.approx(1.0)
    assert report.by_device["rtx3090"]["decode"].n == 1
    assert report.metrics["ttft"].n == 0
    assert report.metrics["ttft"].median_ape is None


def test_ttft_is_in_milliseconds():
    found = {c.metric: c for c in compare([read(ttft_ms=1.0, prefill_tok_s=1.0, prompt_tokens=4096)])}
    assert found["ttft"].value == pytest.approx(1000 * 4096 / found["prefill"].value, rel=0.1)


def test_a_warm_ttft_is_not_judged_but_its_decoding_is():
    rows = [read(engine="vllm", decode_tok_s=50, ttft_ms=10, prompt_tokens=4096, notes="warm prefix cache")]
    report = validation(rows, [], compare(rows))
    assert (report.metrics["ttft"].n, report.metrics["decode"].n, report.warm) == (0, 1, 1)


def test_rows_that_failed_count_as_not_covered():
    rows = [read(decode_tok_s=50)]
    report = validation(rows, [NotCovered(line=3, reason="Line 3: no.")], compare(rows))
    assert (report.rows, report.covered) == (2, 1)
    assert report.model_dump(mode="json", by_alias=True)["schema"] == "corral.validation/1"


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0)])
def test_quantiles_lie_between_values_in_proportion(share, value):
    assert quantile([1.0, 2.0, 3.0, 4.0], share) == value
