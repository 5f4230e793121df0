"""One call of the admin API, read and checked: what an operation gets; knows no HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from corral.values import Value

Q = TypeVar("Q")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Call(Generic[Q, B]):
    """What is asked, and where the answer is found."""

    path: Mapping[str, str]  # the variable parts of the path, by name
    query: Q
    body: B
    clock: Callable[[], float]  # seconds since the epoch
    folder: Path | None  # of the database


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path. `run` may block: it reads and writes the database."""

    method: str
    path: str  # "/api/keys/{key}"
    run: Callable[[Call[Any, Any]], Value]
    answer: type[Value]
    query: type[Value]
    body: type[Value] | None = None
    status: int = 200
