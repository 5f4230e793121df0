"""What `corral catalog` says: entries of every kind, with their sources, found by name and by words."""

import json

import pytest
from typer.testing import CliRunner

from corral.catalog.describe import KINDS, listing, search, show
from corral.cli.main import app
from corral.errors import BadInput


def ask(*words):
    return CliRunner().invoke(app, ["catalog", *words], env={"COLUMNS": "160"}, catch_exceptions=False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_of_every_kind_is_told_with_sources(kind):
    entries = listing(kind)
    assert entries
    for entry in entries:
        assert entry.facts
        assert all(fact.source and fact.date and fact.confidence for fact in entry.facts), entry.id


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_listed(kind):
    result = ask("list", kind)
    assert result.exit_code == 0
    for entry in listing(kind):
        assert entry.id in result.output
    assert ask(kind).output == result.output


def test_the_kinds():
    result = ask()
    assert all(kind in result.output for kind in KINDS)
    assert json.loads(ask("--json").output)["kinds"]["devices"] > 100


def test_an_entry_is_shown_by_any_of_its_names():
    assert [(entry.kind, entry.id) for entry in show("NVIDIA GeForce RTX 3090")] == [("devices", "rtx3090")]
    output = ask("show", "DGX Spark").output
    assert "NVIDIA GB10" in output
    assert "273 GB/s" in output
    assert "estimated" in output
    told = json.loads(ask("show", "gb10", "--json").output)
    assert told["schema"] == "corral.catalog/1"
    facts = {fact["name"]: fact for fact in told["entries"][0]["facts"]}
    assert facts["bandwidth"]["value"] == "273"
    assert facts["bandwidth"]["unit"] == "GB/s"
    assert facts["bandwidth"]["source"]
    assert facts["bandwidth"]["date"].startswith("20")


def test_measurements_domains_and_rules_are_facts_too():
    measured = [fact for fact in show("roce-200g")[0].facts if fact.name == "measured"]
    assert any("all_reduce" in fact.value and "size 49,152" in fact.value for fact in measured)
    assert any(fact.name == "domain" for fact in show("dgx-1")[0].facts)
    assert any(fact.name == "rule" and "bfloat16" in fact.value for fact in show("vllm")[0].facts)


def test_search_puts_what_is_called_so_before_what_mentions_it():
    found = [entry.id for entry in search(["v100", "nvlink"])]
    assert found.index("nvlink2") < found.index("dgx-1")
    assert search(["RTX", "3090"])[0].id.startswith("rtx3090")
    assert search(["zzzz"]) == ()
    assert search([]) == ()
    nothing = ask("search", "zzzz")
    assert (nothing.exit_code, "Nothing" in nothing.output) == (1, True)


@pytest.mark.parametrize(
    "words", [("show", "rtx 3095"), ("list", "toasters"), ("bake", "bread"), ("search",), ("show",)]
)
def test_wrong_questions_are_answered_with_what_to_ask(words):
    with pytest.raises(BadInput) as told:
        ask(*words)
    assert told.value.remedy


def test_near_matches_are_named():
    with pytest.raises(BadInput, match=r"near it are .*rtx3090"):
        show("rtx 3095")
