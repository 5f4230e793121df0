"""Claims as their data files hold them, and what became of each; knows no planner."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from corral.values import Value

Kind: TypeAlias = Literal[
    "weights", "kv-token", "kv-tokens", "decode", "prefill", "ttft", "output", "fits", "context", "watts",
    "ratio", "device", "devices", "link", "board", "switch", "sum", "month", "circuit", "arithmetic", "elsewhere",
]  # fmt: skip


class MadeCluster(Value):
    """A cluster in a few words: equal nodes with groups of one device each."""

    device: str
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    domains: tuple[int, ...] = (1,)  # devices of each group of a node
    joined: str | None = None  # within a group; None: as the catalog knows the device
    link: str | None = None  # between nodes
    bandwidth: str | None = None  # measured, of the link
    switch: str | None = None
    limit: float | None = None  # watts a device
    base: float | None = None  # watts of a node without its devices


class Claim(Value):
    """One cell of a table, or one sentence: what is claimed, and what to compute for it."""

    line: int  # of the document
    says: str
    claimed: float | tuple[float, float] | bool | None = None  # None: nothing that can be compared
    unit: str = ""
    find: Kind
    of: Mapping[str, Any] = {}  # what the computation needs: model, cluster, quant, ...
    why: str = ""  # needed where the two disagree


class Table(Value):
    """A table of the document, or a paragraph of figures."""

    title: str
    lines: str
    of: Mapping[str, Any] = {}  # for all of its claims
    note: str = ""
    claims: tuple[Claim, ...]


class Document(Value):
    """A source document."""

    file: str
    title: str
    about: str
    clusters: Mapping[str, MadeCluster] = {}
    tables: tuple[Table, ...]


class Answer(Value):
    """What Corral computes for a claim; `low` and `high` where it is a prediction."""

    text: str
    value: float | bool | None = None
    low: float | None = None
    high: float | None = None


class Judged(Value):
    """A claim with what became of it."""

    claim: Claim
    answer: Answer
    agrees: bool | None  # None: nothing to compare


class JudgedTable(Value):
    """A table with its claims judged."""

    table: Table
    rows: tuple[Judged, ...]


class JudgedDocument(Value):
    """A document with its tables judged."""

    document: Document
    tables: tuple[JudgedTable, ...]
