"""Reads and writes which models are offered without being launched, in the database; decides nothing about them."""

import json
from collections.abc import Iterable
from typing import Final

from pydantic import ValidationError

from corral.errors import CorralError, DoesNotFit
from corral.store.database import Database
from corral.store.values import Offered

_SEEN: Final = "offers.seen"


def add(database: Database, offers: Iterable[Offered], now: float) -> None:
    """Remember offers. DoesNotFit when one of the same name says something else; the same again is no error."""
    known = {offer.name: offer for offer in all_of(database)}
    for position, offer in enumerate(offers, start=len(known)):
        there = known.get(offer.name)
        if there is not None and there != offer:
            raise DoesNotFit(
                f"A model named {offer.name} is offered already, with other settings.",
                f"End it with `corral down {offer.name}` first.",
            )
        if there is None:
            database.execute(
                "INSERT INTO offers (name, position, offer, changed) VALUES (?, ?, ?, ?)",
                (offer.name, position, offer.model_dump_json(), now),
            )


def all_of(database: Database) -> tuple[Offered, ...]:
    """All offers, in the order in which they were made."""
    rows = database.execute("SELECT name, offer FROM offers ORDER BY position, name").fetchall()
    try:
        return tuple(Offered.model_validate_json(row["offer"], extra="ignore") for row in rows)
    except ValidationError as error:
        raise CorralError(
            f"What is written of the offered models cannot be read: {error.errors()[0]['msg']}.",
            "Use the version of Corral that wrote it, or point CORRAL_HOME to another folder.",
        ) from error


def mark(database: Database) -> tuple[int, float]:
    """What changes whenever the offers do; cheaper than reading them."""
    row = database.execute("SELECT count(*), coalesce(max(changed), 0) FROM offers").fetchone()
    return int(row[0]), float(row[1])


def note_seen(database: Database, head: int) -> None:
    """Say that the head, by its process id, knows the offers as they are now marked."""
    written = json.dumps([head, *mark(database)])
    database.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (_SEEN, written))


def seen(database: Database, head: int) -> bool:
    """Whether that head knows the offers as they are now."""
    row = database.execute("SELECT value FROM settings WHERE name = ?", (_SEEN,)).fetchone()
    return row is not None and json.loads(row["value"]) == [head, *mark(database)]


def forget(database: Database, names: Iterable[str]) -> None:
    """Offer these no more; what runs of them runs on."""
    for name in names:
        database.execute("DELETE FROM offers WHERE name = ?", (name,))
