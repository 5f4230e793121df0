"""What is remembered of an API key: its name, what it may do, until when; knows no secret and no database."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from corral.errors import BadInput
from corral.values import Value

Status = Literal["living", "expired", "revoked"]
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}", re.ASCII)
_RESERVED: Final = ("sk-", "key-")

Model = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}$")]
"""The public name of a model, as `corral up --name` takes it."""
Many = Annotated[int, Field(ge=1, le=10**12)]


class Limits(Value):
    """What a key may do. None: no limit."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=256)] | None = None  # public names
    requests_per_minute: Many | None = None
    tokens_per_minute: Many | None = None  # prompt and answer together
    tokens_per_day: Many | None = None  # of a UTC day
    concurrent: Annotated[int, Field(ge=1, le=10**6)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = 0  # higher goes first


def limits_of(fields: Mapping[str, object]) -> Limits:
    """Limits out of fields that a person gave; BadInput names the one that cannot be."""
    try:
        return Limits.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0]).replace("_", " ")
        raise BadInput(
            f"A key's limit of {field} cannot be {first['input']!r}.",
            "Limits are whole numbers from 1, a priority is from -100 to 100, and models are called by their names.",
        ) from None


class Key(Value):
    """An API key without its secret. Times are seconds since the epoch."""

    id: str  # public: it stands in logs, metrics and tables
    name: str
    admin: bool = False  # may use /api
    limits: Limits = Limits()
    created: float
    expires: float | None = None
    revoked: float | None = None
    last_used: float | None = None  # within a minute or so
    earlier_until: float | None = None  # until when the secret before the last rotation is good too

    def status_at(self, now: float) -> Status:
        """Whether it can be used."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "living"


class Secret(Value):
    """A digest by which a request is known to come from a key."""

    digest: bytes
    key: Key
    until: float | None  # seconds since the epoch; None: for ever


def check_name(name: str) -> str:
    """Give the name back if a key can have it; BadInput when it cannot."""
    if name.startswith(_RESERVED):
        # It may be a secret, so it is not repeated.
        raise BadInput(
            'A key\'s name does not begin with "sk-" or "key-".',
            "Give a name such as alice or ci; Corral makes the secret, or reads one with --from-file.",
        )
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name[:80]!r} cannot be a key's name.",
            "Use up to 64 letters, digits and . _ @ : - and begin with a letter or a digit.",
        )
    return name
