"""The claims as a document in Markdown: a table for each of the sources' tables; knows no computation."""

from collections.abc import Iterator, Sequence
from typing import Final

from corral.planner.claims.values import Judged, JudgedDocument, JudgedTable

_HEAD: Final = """\
# What the sources claim, and what Corral computes

Made by `make claims`; do not edit it, edit `src/corral/planner/claims/data`. Five public documents about such clusters
stand at the beginning of this project. Each of their tables is set here beside what Corral computes: sizes and memory
from the models' own configurations, speeds by its model with the range that should hold nine times in ten, figures of
hardware from its catalog. A line of the document stands before each claim.

`=` both can be true: they differ by no more than a tenth, or the claim lies in the predicted range. `x` they disagree,
and the last column says why. `-` there is nothing to compare.
"""


def page(documents: Sequence[JudgedDocument]) -> str:
    """The whole document."""
    return "\n".join([_HEAD, *_summary(documents), *(line for found in documents for line in _document(found))]) + "\n"


def _summary(documents: Sequence[JudgedDocument]) -> Iterator[str]:
    yield "| document | claims | agree | disagree | not comparable |"
    yield "|---|--:|--:|--:|--:|"
    for found in documents:
        rows = [row for table in found.tables for row in table.rows]
        agree, against = (sum(row.agrees is verdict for row in rows) for verdict in (True, False))
        counts = f"{len(rows)} | {agree} | {against} | {len(rows) - agree - against}"
        yield f"| {_cell(found.document.title)} | {counts} |"
    yield ""


def _document(found: JudgedDocument) -> Iterator[str]:
    document = found.document
    yield f"## {document.file[:3]}: {document.title}"
    yield ""
    yield f"{document.about} (`{document.file}`)"
    yield ""
    for table in found.tables:
        yield from _table(table)


def _table(found: JudgedTable) -> Iterator[str]:
    yield f"### {found.table.title} (lines {found.table.lines})"
    yield ""
    if found.table.note:
        yield found.table.note
        yield ""
    yield "| line | the document | Corral | | why they differ |"
    yield "|--:|---|---|---|---|"
    for row in found.rows:
        yield _row(row)
    yield ""


def _row(row: Judged) -> str:
    sign = {True: "=", False: "x", None: "-"}[row.agrees]
    why = row.claim.why if row.agrees is False else ""
    return f"| {row.claim.line} | {_cell(row.claim.says)} | {_cell(row.answer.text)} | {sign} | {_cell(why)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
