"""Sets each claim beside what Corral computes; knows no wording of the document that comes of it."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final

from corral.planner.claims.compute import answer
from corral.planner.claims.values import Answer, Claim, Document, Judged, JudgedDocument, JudgedTable, Table

# A document rounds, and says "about": figures this near to each other are the same. What it adds up must add up.
_NEAR: Final = 0.1
_NEAR_SUM: Final = 0.01


@cache
def documents() -> tuple[Document, ...]:
    """The source documents' claims, by the number of the document."""
    folder = files("corral.planner.claims").joinpath("data")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return tuple(
        Document.model_validate(tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8"))) for name in names
    )


def judged(document: Document) -> JudgedDocument:
    """Every claim of a document with what Corral computes."""
    tables = tuple(
        JudgedTable(table=table, rows=tuple(_judged(document, table, claim) for claim in table.claims))
        for table in document.tables
    )
    return JudgedDocument(document=document, tables=tables)


def _judged(document: Document, table: Table, claim: Claim) -> Judged:
    found = answer(claim.find, {**table.of, **claim.of}, document.clusters)
    return Judged(claim=claim, answer=found, agrees=agrees(claim, found))


def agrees(claim: Claim, found: Answer) -> bool | None:
    """Whether the claim and the answer can both be true; None when there is nothing to compare."""
    if claim.claimed is None or found.value is None:
        return None
    if isinstance(claim.claimed, bool) or isinstance(found.value, bool):
        return claim.claimed == found.value
    low, high = claim.claimed if isinstance(claim.claimed, tuple) else (claim.claimed, claim.claimed)
    value_low = found.low if found.low is not None else found.value
    value_high = found.high if found.high is not None else found.value
    near = _NEAR_SUM if claim.find == "sum" else _NEAR
    return value_low <= high * (1 + near) and value_high >= low * (1 - near)
