from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.models.source import DEFAULT, ModelSource, parse_source
from models.refusals import value_or_words


@pytest.mark.parametrize(
    ("text", "repo", "pick", "revision"),
    [
        ("Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF", "", "main"),
        ("Qwen/Qwen3-0.6B-GGUF:Q8_0", "Qwen/Qwen3-0.6B-GGUF", "Q8_0", "main"),
        ("a/b:dir/file-00001-of-00002.gguf@v1.0", "a/b", "dir/file-00001-of-00002.gguf", "v1.0"),
        ("a/b@refs/pr/3", "a/b", "", "refs/pr/3"),
    ],
)
def test_hub_ids_are_read_and_written(text, repo, pick, revision):
    source = parse_source(text, Path("/nowhere"))
    assert source == ModelSource(kind="hub", repo=repo, pick=pick, revision=revision)
    assert str(source) == text


def test_what_exists_counts_first(tmp_path):
    (tmp_path / "Qwen").mkdir()
    (tmp_path / "Qwen" / "model").mkdir()
    assert parse_source("Qwen/model", tmp_path) == ModelSource(kind="local", path=str(tmp_path / "Qwen" / "model"))
    assert parse_source("Qwen/other", tmp_path).kind == "hub"
    assert parse_source(str(tmp_path), Path("/")).path == str(tmp_path)


def test_nothing_is_the_default_and_the_demo_has_a_name(tmp_path):
    source = parse_source("", tmp_path)
    assert (source.kind, str(source)) == ("default", DEFAULT)
    assert parse_source("demo", tmp_path) == parse_source("corral-demo", tmp_path) == ModelSource(kind="demo")


@pytest.mark.parametrize(
    "text", ["./missing.gguf", "/no/such", "~/none", "nothing", "a/b/c", "a/../b", "a/b:", "a b/c"]
)
def test_what_is_neither_is_refused(text, tmp_path):
    with pytest.raises(BadInput, match="no Hub id"):
        parse_source(text, tmp_path)


@given(st.text(max_size=40))
def test_any_text_gives_a_source_or_an_error_in_words(text):
    value_or_words(lambda: parse_source(text, Path("/nowhere")))
