"""The base of every value that flows between rooms: frozen, strict, JSON in and out; knows no room."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value; a field that it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
