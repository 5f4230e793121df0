"""`corral claims`: what the source documents claim beside what Corral computes, as a document or as JSON."""

import sys
from pathlib import Path

from corral.cli.console import print_json
from corral.errors import BadInput
from corral.planner.claims.judge import documents, judged
from corral.planner.claims.page import page


def run_claims(only: str, output: str, *, as_json: bool) -> None:
    """Print the document; `only` is the beginning of a source's file name, `output` a file to write instead."""
    chosen = [document for document in documents() if document.file.startswith(only)]
    if not chosen:
        known = ", ".join(document.file[:3] for document in documents())
        raise BadInput(f"There is no source document {only!r}.", f"Name one of {known}, or none for all.")
    found = [judged(document) for document in chosen]
    if as_json:
        print_json({"schema": "corral.claims/1", "documents": [one.model_dump(mode="json") for one in found]})
        return
    text = page(found)
    if not output:
        sys.stdout.write(text)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror}.", "Name another file.") from None
