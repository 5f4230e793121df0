import json
import re

import pytest

HEADER = "row,device,engine,model,quant,prompt_tokens,concurrency,decode_tok_s,link\n"
RUN = "a,gb10,vllm,llama-3.1-8b,fp8,128,1,20,none\n"


@pytest.fixture
def table(tmp_path):
    def write(content):
        path = tmp_path / "runs.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_table_is_predicted_row_by_row(corral, table):
    code, out, err = corral("validate", table(HEADER + RUN + RUN.replace("gb10", "abacus")), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "corral.validation/1"
    assert (document["rows"], document["covered"]) == (2, 1)
    assert document["metrics"]["decode"]["n"] == 1


@pytest.mark.parametrize("ends", ["\r\n", "\r", "\n\n"])
def test_lines_may_end_as_on_any_system_and_begin_with_a_byte_order_mark(corral, table, ends):
    code, out, _ = corral("validate", table("\ufeff" + (HEADER + RUN).replace("\n", ends)), "--json")
    assert (code, json.loads(out)["covered"]) == (0, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (HEADER, "holds no row"),
        (HEADER.replace("model,", "") + RUN, "lacks the column model"),
        (HEADER.replace("decode_tok_s", "speed") + RUN, "no measured column"),
        (HEADER.replace("quant", "engine") + RUN, "names a column twice"),
        ((HEADER + RUN).replace(",", ";"), "separated by semicolons"),
        ((HEADER + RUN).replace(",", "\t"), "separated by tabs"),
        ((HEADER + RUN).encode("utf-16"), "is no CSV table"),
        ((HEADER + RUN.replace("a,", "\xe9,")).encode("latin-1"), "is no CSV table"),
        (HEADER + '"' + RUN, "is no CSV table"),
        (HEADER + RUN.replace("a,", "x" * 10_000_000 + ","), "is no CSV table"),
        (bytes(range(256)) * 40, "is no CSV table"),
        *((HEADER + RUN.replace("20", value), f"holds {value}") for value in ("-1", "inf", "nan", "1e400")),
        (HEADER + RUN.replace("20", "fast"), "no number"),
        *((HEADER + RUN.replace("128", value), f"holds {value}") for value in ("-1", "inf", "1.5", "9" * 30)),
    ],
)
def test_what_is_no_table_of_runs_is_said_in_two_sentences(corral, table, content, said):
    code, out, err = corral("validate", table(content))
    assert (code, out) == (2, "")
    assert said in err
    assert "try:" in err


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/tmp", "/nonexistent.csv", ""])
def test_what_is_no_file_is_refused_at_once(corral, path):
    code, out, err = corral("validate", path)
    assert (code, out) == (2, "")
    assert "try:" in err


def test_names_in_a_table_are_no_markup(corral, table):
    code, out, err = corral("validate", table(HEADER + RUN.replace("vllm", "[/red]") + RUN.replace("none", "[/bold]")))
    assert (code, err) == (0, "")
    assert "engine [/red]: decode" in out
    assert re.search(r"link \[/bold\]: decode", out)
