"""No fact of the catalog without value, unit, source, date and confidence."""

from datetime import date

import pytest

from corral.catalog.entries import UNITS, entry_ids, names, plain, read_entry

KINDS = ("devices", "boards", "links", "switches", "engines")
ENTRIES = [(kind, entry) for kind in KINDS for entry in entry_ids(kind)]
CONFIDENCE = {"high", "medium", "low", "estimated"}
UNITS_OF = {  # the units that a fact of this name may have; others would be read wrongly
    "memory": {"GiB"},
    "usable": {"GiB", "MiB"},
    "bandwidth": {"GB/s"},
    "line_rate": {"GB/s", "Gb/s"},
    "latency": {"us"},
    "pcie": {"GB/s"},
    "int8": {"TOPS"},
    "int4": {"TOPS"},
    "price_low": {"USD"},
    "price_high": {"USD"},
} | {name: {"TFLOPS"} for name in ("fp32", "fp16", "bf16", "fp8", "fp4")}
WORDS = {"formats", "names", "compute capability", "gfx target"}  # units of facts that are no quantities


def sourced(table):
    """Whether it says where it comes from, when, and how sure that is."""
    return (
        isinstance(table.get("source"), str)
        and len(table["source"]) >= 6
        and isinstance(table.get("date"), date)
        and date(2016, 1, 1) <= table["date"] <= date(2027, 12, 31)
        and table.get("confidence") in CONFIDENCE
    )


def test_there_is_a_catalog():
    assert len(entry_ids("devices")) > 100
    assert all(len(entry_ids(kind)) >= 9 for kind in KINDS)


@pytest.mark.parametrize(("kind", "entry"), ENTRIES)
def test_every_fact_has_its_source(kind, entry):
    table = read_entry(kind, entry)
    assert table["id"] == entry
    facts = table.get("facts", {})
    assert facts or kind == "switches"
    for name, fact in facts.items():
        assert set(fact) <= {"value", "unit", "source", "date", "confidence", "note"}, name
        assert "value" in fact, name
        assert fact["unit"] in UNITS or fact["unit"] in WORDS, name
        assert fact["unit"] in UNITS_OF.get(name, {fact["unit"]}), name
        assert (fact["unit"] in UNITS) == isinstance(fact["value"], int | float), name
        assert sourced(fact), name
    for part in ("operations", "domains", "ports", "support", "remarks"):
        for each in table.get(part, ()):
            assert sourced(each), (part, each)


@pytest.mark.parametrize(("kind", "entry"), ENTRIES)
def test_an_estimate_says_how_it_was_made(kind, entry):
    for name, fact in read_entry(kind, entry).get("facts", {}).items():
        if fact["confidence"] == "estimated":
            assert "note" in fact or len(fact["source"]) > 10, name


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_read_from_the_first_lines_and_mean_one_entry(kind):
    known = names(kind)
    claimed: dict[str, str] = {}
    for entry in entry_ids(kind):
        table = read_entry(kind, entry)
        for name in {plain(said) for said in (entry, table["name"], *table["aliases"])}:
            assert claimed.setdefault(name, entry) == entry, f"{name} is {claimed[name]} and {entry}"
            assert known[name] == entry
    assert claimed == known
