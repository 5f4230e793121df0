"""What the admin API takes and gives, as JSON; knows no HTTP and no database.

Times are seconds since the epoch, days are of UTC. Lists come newest first (usage by key or model: the largest first).
"""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from corral.store.keyvalues import Key, Limits, Many, Model, Status, check_name
from corral.store.usage import UsageRow
from corral.store.values import Desired, Event, State
from corral.values import Value

_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_MOST: Final = 1000
_LONGEST_SECONDS: Final = 100 * 366 * 86_400
# As check_name has it; with what pydantic's own patterns cannot say.
_NAME_SCHEMA: Final = {"type": "string", "pattern": r"^(?!sk-|key-)[A-Za-z0-9][A-Za-z0-9._@:-]{0,63}$"}


def _check_day(text: str) -> str:
    if not _DAY.fullmatch(text):
        raise ValueError("a day such as 2026-11-21 is expected")
    date.fromisoformat(text)
    return text


KeyName = Annotated[str, AfterValidator(check_name), WithJsonSchema(_NAME_SCHEMA)]
Day = Annotated[str, AfterValidator(_check_day), WithJsonSchema({"type": "string", "format": "date"})]
Models = Annotated[tuple[Model, ...], Field(min_length=1, max_length=256)]
FromNow = Annotated[float, Field(ge=1, le=_LONGEST_SECONDS)]
Limit = Annotated[int, Field(ge=1, le=_MOST)]


def _left_out() -> Any:  # noqa: ANN401 - it stands for a default of any type
    """For what can be left out and cannot be null: whether it was said is known from `model_fields_set` alone."""
    return Field(default=None, json_schema_extra=_without_default)


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class NewKey(Limits):
    """A key to make."""

    name: KeyName
    admin: bool = False
    expires_in: FromNow | None = None  # seconds from now; null: never


class KeyChange(Value):
    """What of a key is to change; what is left out stays, and null takes a limit away."""

    name: KeyName = _left_out()
    admin: bool = _left_out()
    expires_in: FromNow | None = None
    models: Models | None = None
    requests_per_minute: Many | None = None
    tokens_per_minute: Many | None = None
    tokens_per_day: Many | None = None
    concurrent: Annotated[int, Field(ge=1, le=10**6)] | None = None
    priority: Annotated[int, Field(ge=-100, le=100)] = _left_out()


class KeyView(Key):
    """A key."""

    status: Status


class KeyMade(Value):
    """A new key. Its secret is given here once, and kept nowhere."""

    key: KeyView
    secret: str


class KeyPage(Value):
    """Some keys. `next` is the `before` of the page that follows; null: there is none."""

    keys: tuple[KeyView, ...]
    asked: bool  # whether the endpoint asks for a key at all
    next: str | None


class KeyQuery(Value):
    """Which keys."""

    revoked: Literal["true", "false"] = "false"  # those that are revoked too
    limit: Limit = 100
    before: str | None = None  # a key's id


class UsageQuery(Value):
    """Which usage."""

    by: Literal["key", "model", "day"] = "key"
    since: Day | None = None  # the first day; 30 days ago if left out
    before: Day | None = None  # the day after the last
    key: str | None = None  # a name or an id
    model: str | None = None
    limit: Limit = 100


class UsagePage(Value):
    """What was used. By day, `next` is the `before` of the page that follows; null: there is none."""

    by: Literal["key", "model", "day"]
    since: Day
    rows: tuple[UsageRow, ...]
    next: Day | None


class FailureView(Value):
    """Why a deployment does not run: what is wrong, and what to do."""

    cause: str
    remedy: str


class DeploymentView(Value):
    """How a deployment stands."""

    name: str
    serves: str  # the model's name in the API
    state: State
    desired: Desired
    stage: str | None  # of its launch, while it lasts
    fraction: float | None  # of that stage, 0 to 1
    since: float  # in this state
    model: str  # what it was made of
    engine: str
    layout: str
    nodes: tuple[str, ...]
    context: int  # tokens of a request, prompt and answer
    memory: int  # bytes that its ranks hold
    tokens_per_second: float | None  # of a single short stream, when it became ready
    failure: FailureView | None


class StatusView(Value):
    """What is wanted and what runs."""

    version: str
    deployments: tuple[DeploymentView, ...]


class EventQuery(Value):
    """Which events."""

    limit: Limit = 100
    before: Annotated[int, Field(ge=1, le=2**53)] | None = None  # an event's number


class EventView(Event):
    """Something that happened."""

    id: int


class EventPage(Value):
    """Some events. `next` is the `before` of the page that follows; null: there is none."""

    events: tuple[EventView, ...]
    next: int | None


class ErrorBody(Value):
    """What is wrong, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorView(Value):
    """An answer that is an error."""

    error: ErrorBody


class NoQuery(Value):
    """No parameters."""
