"""`corral validate`: the shared table, and files that are no table."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corral.cli.main import app
from corral.errors import BadInput

MEASURED = Path(__file__).parents[3] / "measured"


def run(*words):
    return CliRunner().invoke(app, ["validate", *map(str, words)])


def test_the_shared_table_is_covered_and_predicted_as_well_as_the_documents_say():
    report = json.loads(run(MEASURED / "measured.csv", "--json").stdout)
    assert report["schema"] == "corral.validation/1"
    assert report["covered"] / report["rows"] >= 0.99
    metrics = report["metrics"]
    assert metrics["decode"]["median_ape"] < 0.08
    assert metrics["prefill"]["median_ape"] < 0.20
    assert metrics["ttft"]["median_ape"] < 0.20
    assert metrics["output"]["median_ape"] < 0.20
    assert all(m["n"] > 1000 for m in metrics.values())
    assert {"gb10", "rtx3090", "h100-sxm"} <= set(report["by_device"])
    assert len(report["worst"]) == 10


def test_people_get_a_table():
    result = run(MEASURED / "seeds.csv")
    assert result.exit_code == 0
    assert "29 rows" in result.stdout
    assert "device gb10: decode" in result.stdout


HEADER = "device,engine,model,quant,decode_tok_s\n"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (HEADER.encode(), "holds no row"),
        (b"a,b,c\n1,2,3\n", "lacks the column device"),
        (b"device,engine,model\nrtx3090,vllm,llama-3.1-8b\n", "no measured column"),
        (b"device,device,model,ttft_ms\n", "twice"),
        (b"\xff\xfe\x00\x01", "no CSV table"),
        (b'device,model,ttft_ms\n"rtx3090', "no CSV table"),
        ((HEADER + "an-abacus,vllm,llama-3.1-8b,fp8,1\n").encode(), "No row"),
    ],
)
def test_a_file_that_is_no_table_is_told_in_one_sentence(tmp_path, content, cause):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    result = run(file)
    assert isinstance(result.exception, BadInput)
    assert cause in result.exception.cause
    assert result.exception.code == 2
    assert result.exception.remedy


def test_a_file_that_is_not_there(tmp_path):
    assert "cannot be read" in run(tmp_path / "none.csv").exception.cause


def test_a_bad_row_is_counted_and_the_others_are_predicted(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text(HEADER + "rtx3090,vllm,llama-3.1-8b,fp8,50\nan-abacus,vllm,llama-3.1-8b,fp8,50\nrtx3090,vllm\n")
    report = json.loads(run(file, "--json").stdout)
    assert (report["rows"], report["covered"]) == (3, 1)
    assert "Line 3" in report["not_covered"][0]["reason"]
