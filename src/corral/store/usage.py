"""Reads and writes what was used, by key, model and UTC day; knows no price, no limit and no request."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

from corral.store.database import connect, home
from corral.values import Value

By = Literal["key", "model", "day"]
KEPT_DAYS: Final = 400


class Place(NamedTuple):
    """Where a count belongs."""

    day: str  # "2026-11-21", of UTC
    key: str  # a key's id; empty: nobody was asked for one
    model: str  # public name; empty: the request came to none


class Counts(NamedTuple):
    """What was counted. Tokens are the engines' own counts; prompts that were cached are part of the prompts."""

    requests: int = 0
    errors: int = 0
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def plus(self, other: "Counts") -> "Counts":
        """Both together."""
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))  # pyright: ignore[reportArgumentType] - int stays int


class UsageRow(Value):
    """A line of a report: of one key, one model or one day, as was asked."""

    key: str | None = None  # its id
    name: str | None = None  # the key's, also when it is revoked or forgotten; None: requests without a key
    model: str | None = None
    day: str | None = None
    requests: int
    errors: int
    cancelled: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    seconds: float


class UsageStore:
    """The counts in the database. Each method is one transaction."""

    def __init__(self, folder: Path | None = None) -> None:
        self._database = connect(folder or home())
        # Counts are worth little by themselves, and a killed process loses nothing by it: only a power cut does.
        self._database.execute("PRAGMA synchronous = NORMAL")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def add(self, counted: Mapping[Place, Counts], last_used: Mapping[str, float]) -> None:
        """Add to what was counted, and note when keys were last used (by id, seconds since the epoch)."""
        with self._database.transaction():
            for place, counts in counted.items():
                self._database.execute(_ADD, (*place, *counts))
            for key, at in last_used.items():
                self._database.execute(
                    "UPDATE keys SET last_used = max(coalesce(last_used, 0), ?) WHERE id = ?", (at, key)
                )

    def forget(self, now: float) -> None:
        """Forget days that lie KEPT_DAYS and more before now."""
        self._database.execute("DELETE FROM usage WHERE day <= ?", (day_of(now - KEPT_DAYS * 86_400),))

    def tokens_of_day(self, day: str) -> Mapping[str, int]:
        """Tokens of prompts and answers, by key."""
        rows = self._database.execute(
            "SELECT key, sum(prompt_tokens + output_tokens) FROM usage WHERE day = ? GROUP BY key", (day,)
        ).fetchall()
        return dict(map(tuple, rows))

    def report(
        self,
        by: By,
        *,
        since: str,
        before: str | None = None,
        keys: Iterable[str] | None = None,
        model: str | None = None,
        limit: int = -1,
    ) -> tuple[UsageRow, ...]:
        """What was used from the day `since` until `before` begins, by keys of these ids, of this model.

        The most tokens first; days from the newest on.
        """
        chosen = None if keys is None else json.dumps(list(keys))
        rows = self._database.execute(_REPORT, (by, since, before, model, chosen, limit)).fetchall()
        names = dict(self._database.execute("SELECT id, name FROM keys").fetchall()) if by == "key" else {}
        return tuple(
            UsageRow(**{by: row["of"]}, name=names.get(row["of"]), **{name: row[name] for name in Counts._fields})
            for row in rows
        )

    def ids(self, called: str) -> tuple[str, ...]:
        """The ids of all keys that have, or had, this name or id."""
        rows = self._database.execute("SELECT id FROM keys WHERE id = ?1 OR name = ?1 ORDER BY rowid", (called,))
        return tuple(row["id"] for row in rows.fetchall())


def day_of(at: float) -> str:
    """The UTC day of a moment (seconds since the epoch): "2026-11-21"."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


_ADD: Final = """
    INSERT INTO usage
        (day, key, model, requests, errors, cancelled, prompt_tokens, cached_tokens, output_tokens, seconds)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        requests = requests + excluded.requests,
        errors = errors + excluded.errors,
        cancelled = cancelled + excluded.cancelled,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        seconds = seconds + excluded.seconds
"""
_REPORT: Final = """
    SELECT
        CASE ?1 WHEN 'key' THEN key WHEN 'model' THEN model ELSE day END AS of,
        sum(requests) AS requests, sum(errors) AS errors, sum(cancelled) AS cancelled,
        sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens, sum(output_tokens) AS output_tokens,
        sum(seconds) AS seconds
    FROM usage
    WHERE day >= ?2 AND (?3 IS NULL OR day < ?3) AND (?4 IS NULL OR model = ?4)
        AND (?5 IS NULL OR key IN (SELECT value FROM json_each(?5)))
    GROUP BY of
    ORDER BY CASE ?1 WHEN 'day' THEN 0 ELSE sum(prompt_tokens + output_tokens) END DESC,
        CASE ?1 WHEN 'day' THEN day END DESC, of
    LIMIT ?6
"""
