from pathlib import Path

import pytest

from corral.planner.claims.judge import agrees, documents, judged
from corral.planner.claims.page import page
from corral.planner.claims.values import Answer, Claim

PAGE = Path(__file__).parents[3] / "docs" / "claims.md"


@pytest.fixture(scope="module")
def found():
    return [judged(document) for document in documents()]


def test_all_five_documents_are_there(found):
    assert [one.document.file[:3] for one in found] == ["000", "001", "002", "003", "004"]
    assert sum(len(table.rows) for one in found for table in one.tables) > 150


def test_every_disagreement_is_explained(found):
    unexplained = [
        (one.document.file[:3], row.claim.line, row.claim.says, row.answer.text)
        for one in found
        for table in one.tables
        for row in table.rows
        if row.agrees is False and not row.claim.why
    ]
    assert unexplained == []


def test_every_claim_has_its_line_and_every_table_its_claims(found):
    for one in found:
        for table in one.tables:
            assert table.rows, table.table.title
            assert all(row.claim.line > 0 for row in table.rows)


@pytest.mark.parametrize(
    ("line", "document", "agree"),
    [
        (216, "004", False),  # the cache of Llama 3.1 405B, five times too large
        (7, "000", True),  # 128 GB
        (40, "000", False),  # a run on one box that cannot have been
        (193, "001", False),  # every expert must be held
        (201, "001", False),  # 210 GB in 128
        (99, "003", False),  # 3 kW on one circuit
        (230, "004", False),  # a single stream sees the whole model
        (60, "000", False),  # a list of parts that does not add up
        (47, "003", False),  # vLLM over nodes without Ray
        (234, "001", False),  # sizes at four bits
        (413, "001", False),  # lanes
    ],
)
def test_known_errors_are_found_and_known_truths_are_not(found, line, document, agree):
    (one,) = [one for one in found if one.document.file.startswith(document)]
    verdicts = [row.agrees for table in one.tables for row in table.rows if row.claim.line == line]
    assert agree in verdicts


def test_what_agrees():
    def claim(claimed):
        return Claim(line=1, says="x", claimed=claimed, find="device")

    yes = True

    near, ranged = Answer(text="", value=105.0), Answer(text="", value=50.0, low=20.0, high=80.0)
    assert agrees(claim(100.0), near) is True
    assert agrees(claim(80.0), near) is False
    assert agrees(claim((10.0, 25.0)), ranged) is True
    assert agrees(claim((1.0, 2.0)), ranged) is False
    assert agrees(claim(yes), Answer(text="", value=False)) is False
    assert agrees(claim(5.0), Answer(text="", value=False)) is False
    assert agrees(claim(None), near) is None
    assert agrees(claim(1.0), Answer(text="words")) is None


def test_the_document_is_up_to_date(found):
    assert PAGE.read_text(encoding="utf-8") == page(found), "docs/claims.md is old: `make claims` writes it anew"
