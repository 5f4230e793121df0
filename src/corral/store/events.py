"""Writes and reads what happened, in the database; knows nothing of what the events are about."""

from typing import Final

from corral.store.database import Database
from corral.store.values import Event

EVENTS_KEPT: Final = 10_000


def tell(database: Database, at: float, deployment: str | None, kind: str, text: str) -> None:
    """Write an event of the time `at` (seconds since the epoch); the oldest ones fall out."""
    cursor = database.execute(
        "INSERT INTO events (at, deployment, kind, text) VALUES (?, ?, ?, ?)", (at, deployment, kind, text)
    )
    database.execute("DELETE FROM events WHERE id <= ?", ((cursor.lastrowid or 0) - EVENTS_KEPT,))


def newest(database: Database, limit: int) -> tuple[Event, ...]:
    """The newest events, oldest first."""
    return tuple(event for _, event in reversed(page(database, limit)))


def page(database: Database, limit: int, before: int | None = None) -> tuple[tuple[int, Event], ...]:
    """Events by their numbers, newest first; `before`: only those with a smaller number."""
    rows = database.execute(
        "SELECT id, at, deployment, kind, text FROM events WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2",
        (before, limit),
    ).fetchall()
    shown = Event.model_fields
    return tuple((row["id"], Event.model_validate({field: row[field] for field in shown})) for row in rows)
