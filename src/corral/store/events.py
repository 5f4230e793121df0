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
    rows = database.execute(
        "SELECT at, deployment, kind, text FROM events ORDER BY id DESC LIMIT ?", (limit,)
    ).fetchall()
    return tuple(Event.model_validate(dict(row)) for row in reversed(rows))
