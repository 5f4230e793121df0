"""How things look on a terminal: errors, tables, the colours; knows no work."""

import json
import sys
from typing import Any

from rich.console import Console

console = Console(highlight=False)
stderr = Console(stderr=True, highlight=False)


def print_error(cause: str, remedy: str) -> None:
    """Say what is wrong and what to do, on standard error."""
    stderr.print("error:", style="bold red", end=" ")
    stderr.print(cause, markup=False, soft_wrap=True)
    stderr.print("  try:", style="bold", end=" ")
    stderr.print(remedy, markup=False, soft_wrap=True)


def print_json(document: Any) -> None:  # noqa: ANN401 - any JSON document
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
