"""Which models a cluster serves, as the cluster file says: what, where, when loaded; knows no file of a model."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints

from corral.cluster.quantities import Name, Seconds, Text
from corral.values import Value

ModelName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}$")]
"""A model's name in the API."""

LayoutText: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^(tp[1-9]\d{0,3}(xpp[1-9]\d{0,3})?|pp[1-9]\d{0,3})?((^|x)dp[1-9]\d{0,2})?$")
]
"""How ranks split a model: "tp2", "pp2", "tp4xpp2"; with "dp", as many replicas of that."""


class ServedModel(Value):
    """A model that can be asked for. Unless it is pinned, it is loaded when somebody does."""

    name: ModelName
    model: Text  # a path (from the file's folder), a Hub id, "demo"
    engine: Literal["llamacpp", "vllm"] | None = None
    executor: Literal["ray", "mp", "embedded", "server"] | None = None
    layout: Annotated[LayoutText, Field(min_length=1)] | None = None
    context: Annotated[int, Field(ge=1, le=2**31)] | None = None  # tokens of one request
    concurrency: Annotated[int, Field(ge=1, le=65536)] = 4
    dtype: Text | None = None
    nodes: tuple[Name, ...] = ()  # that it may use; none named: all
    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    aliases: tuple[ModelName, ...] = ()
    fallback: tuple[ModelName, ...] = ()  # who answers in its place, in order
    ttl: Seconds | None = None  # after so much idleness it is unloaded; none: when others need its memory
    pinned: bool = False  # loaded at once and never unloaded for another


class Residency(Value):
    """When models come and go."""

    min_loaded: Annotated[int, Field(ge=0, le=1024)] = 0  # so many stay, however idle
    min_stay: Seconds = 10.0  # that a model stays once it is loaded; it stays as long as its load took at least
