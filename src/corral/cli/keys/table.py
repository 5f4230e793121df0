"""Keys for people's eyes and for programs; knows no secret."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from rich.table import Table

from corral.store.keyvalues import Key, Limits
from corral.units import format_seconds

_COLOURS: Final = {"living": "green", "expired": "yellow", "revoked": "red"}


def document(key: Key, now: float) -> dict[str, Any]:
    """A key as JSON."""
    return key.model_dump(mode="json") | {"status": key.status_at(now)}


def describe(key: Key) -> str:
    """What a key may do, in words."""
    models = f"models {', '.join(key.limits.models)}" if key.limits.models else "every model"
    parts = [
        models,
        *_limits(key.limits),
        *(["may use /api"] if key.admin else []),
        f"until {_moment(key.expires)}" if key.expires is not None else "for ever",
        *([f"the secret before until {_moment(key.earlier_until)}"] if key.earlier_until is not None else []),
    ]
    return ", ".join(parts)


def table(keys: Iterable[Key], now: float) -> Table:
    """A line a key."""
    shown = Table(box=None, pad_edge=False)
    for column in ("name", "id", "status", "models", "limits", "expires", "used"):
        shown.add_column(column, no_wrap=column in {"id", "expires"})
    for key in keys:
        status = key.status_at(now)
        shown.add_row(
            f"{key.name} (admin)" if key.admin else key.name,
            key.id,
            f"[{_COLOURS[status]}]{status}[/]",
            ", ".join(key.limits.models) if key.limits.models else "all",
            ", ".join(_limits(key.limits)) or "none",
            "never" if key.expires is None else _moment(key.expires),
            "never" if key.last_used is None else f"{format_seconds(max(0.0, now - key.last_used))} ago",
        )
    return shown


def _limits(limits: Limits) -> list[str]:
    counts = (
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
        (limits.tokens_per_day, "tokens/day"),
        (limits.concurrent, "at once"),
    )
    said = [f"{count:,} {what}" for count, what in counts if count is not None]
    return [*said, f"priority {limits.priority}"] if limits.priority else said


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%MZ")
