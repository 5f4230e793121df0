"""Reads and writes API keys in the database: digests, never secrets; knows no request and no limit's meaning.

A key is revoked, never deleted, so that its usage keeps a name. While any key is remembered, revoked or not, the
endpoint asks for one; only when all are forgotten is it open again.
"""

import secrets
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError

from corral.credentials import digest
from corral.errors import BadInput, CorralError, DoesNotFit
from corral.store import events
from corral.store.database import connect, home
from corral.store.keyvalues import Key, Limits, Secret, check_name, limits_of

_ID_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz23456789"  # without those that are read as another


class UnknownKey(BadInput):
    """No key has the name or id by which it is called."""


class KeyStore:
    """All keys that were ever made; every write is durable when the method returns.

    `clock` gives seconds since the epoch. A key is called by its name or its id.
    """

    def __init__(self, clock: Callable[[], float], folder: Path | None = None) -> None:
        self._clock = clock
        self._database = connect(folder or home())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def create(
        self, name: str, secret: str, *, limits: Limits | None = None, expires: float | None = None, admin: bool = False
    ) -> Key:
        """Remember a new key. BadInput for a bad name or time; DoesNotFit when name or secret is another's."""
        now = self._clock()
        check_name(name)
        _check_expiry(expires, now)
        key = Key(id=_new_id(), name=name, admin=admin, limits=limits or Limits(), created=now, expires=expires)
        with self._database.transaction():
            self._check_free(name)
            hashed = self._unused(secret)
            self._database.execute(
                "INSERT INTO keys (id, name, digest, admin, limits, created, expires, revision) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(revision), 0) + 1 FROM keys))",
                (key.id, name, hashed, admin, key.limits.model_dump_json(), now, expires),
            )
            self._tell("created", key)
        return key

    def change(self, called: str, **fields: Any) -> Key:  # noqa: ANN401 - each field has its own type
        """Give a living key other values of `name`, `admin`, `expires` or of Limits' fields; errors as in `create`."""
        with self._database.transaction():
            known = self._living(called)
            own = {field: fields.pop(field) for field in ("name", "admin", "expires") if field in fields}
            limits = limits_of(known.limits.model_dump() | fields)
            changed = known.model_copy(update=own | {"limits": limits})
            if changed.name != known.name:
                self._check_free(check_name(changed.name))
            if changed.expires != known.expires:
                _check_expiry(changed.expires, self._clock())
            self._database.execute(
                "UPDATE keys SET name = ?, admin = ?, limits = ?, expires = ? WHERE id = ?",
                (changed.name, changed.admin, limits.model_dump_json(), changed.expires, known.id),
            )
            self._tell("changed", changed)
        return changed

    def rotate(self, called: str, secret: str, *, overlap: float = 0.0) -> Key:
        """Give a living key another secret; the one before is good for `overlap` seconds more."""
        with self._database.transaction():
            known = self._living(called)
            hashed = self._unused(secret)
            until = self._clock() + overlap if overlap > 0 else None
            self._database.execute(
                "UPDATE keys SET earlier = iif(?, digest, NULL), earlier_until = ?, digest = ? WHERE id = ?",
                (until is not None, until, hashed, known.id),
            )
            self._tell("rotated", known)
        return known.model_copy(update={"earlier_until": until})

    def revoke(self, called: str) -> Key:
        """Let a key be good for nothing more; one that is revoked already stays as it is."""
        with self._database.transaction():
            known = self.get(called)
            if known.revoked is not None:
                return known
            revoked = known.model_copy(update={"revoked": self._clock(), "earlier_until": None})
            self._database.execute(
                "UPDATE keys SET revoked = ?, earlier = NULL, earlier_until = NULL WHERE id = ?",
                (revoked.revoked, known.id),
            )
            self._tell("revoked", revoked)
        return revoked

    def forget(self, called: str) -> Key:
        """Take a revoked key out of sight; its usage keeps its name. DoesNotFit while it is not revoked."""
        with self._database.transaction():
            known = self.get(called)
            if known.revoked is None:
                raise DoesNotFit(
                    f"The key {known.name} is not revoked.", f"Run `corral keys revoke {known.name}` first."
                )
            self._database.execute(
                "UPDATE keys SET forgotten = ?, digest = NULL WHERE id = ?",
                (self._clock(), known.id),
            )
            self._tell("forgotten", known)
        return known

    def get(self, called: str) -> Key:
        """The key of this id or name: of several with one name the living one, else the last. BadInput for none."""
        row = self._database.execute(
            "SELECT * FROM keys WHERE forgotten IS NULL AND (id = ?1 OR name = ?1) "
            "ORDER BY revoked IS NOT NULL, revoked DESC, rowid DESC LIMIT 1",
            (called,),
        ).fetchone()
        if row is None:
            # What is called for may be a secret, so it is not repeated.
            raise UnknownKey("There is no key of that name or id.", "`corral keys list --all` shows what is known.")
        return _key(row)

    def listed(self, *, revoked: bool = False, limit: int = -1, before: str | None = None) -> tuple[Key, ...]:
        """Keys, newest first; with the revoked ones if asked. `before`: only those made before the key of this id."""
        rows = self._database.execute(
            "SELECT * FROM keys WHERE forgotten IS NULL AND (revoked IS NULL OR ?) "
            "AND (?2 IS NULL OR rowid < (SELECT rowid FROM keys WHERE id = ?2)) ORDER BY rowid DESC LIMIT ?",
            (revoked, before, limit),
        ).fetchall()
        return tuple(_key(row) for row in rows)

    def configured(self) -> bool:
        """Whether any key is remembered, revoked or not: then the endpoint asks for one."""
        return bool(self._database.execute("SELECT EXISTS (SELECT 1 FROM keys WHERE forgotten IS NULL)").fetchone()[0])

    def secrets(self) -> tuple[Secret, ...]:
        """The digests of all keys that are not revoked, those that have expired among them."""
        rows = self._database.execute("SELECT * FROM keys WHERE revoked IS NULL ORDER BY rowid").fetchall()
        found: list[Secret] = []
        for row in rows:
            key = _key(row)
            found.append(Secret(digest=row["digest"], key=key, until=key.expires))
            if row["earlier"] is not None:
                until = min(row["earlier_until"], key.expires) if key.expires else row["earlier_until"]
                found.append(Secret(digest=row["earlier"], key=key, until=until))
        return tuple(found)

    def names(self) -> Mapping[str, str]:
        """Every key's name by its id, those of forgotten ones among them."""
        return dict(self._database.execute("SELECT id, name FROM keys").fetchall())

    def revision(self) -> int:
        """A number that grows with every change of any key (but not with its use)."""
        return int(self._database.execute("SELECT coalesce(max(revision), 0) FROM keys").fetchone()[0])

    def _living(self, called: str) -> Key:
        known = self.get(called)
        if known.revoked is not None:
            raise DoesNotFit(f"The key {known.name} is revoked, for good.", "Make another with `corral keys create`.")
        return known

    def _check_free(self, name: str) -> None:
        if self._database.execute("SELECT 1 FROM keys WHERE name = ? AND revoked IS NULL", (name,)).fetchone():
            raise DoesNotFit(
                f"There is a key named {name} already.",
                f"Choose another name, or give that one another secret with `corral keys rotate {name}`.",
            )

    def _unused(self, secret: str) -> bytes:
        """The secret's digest, once it is sure that no key has it or had it."""
        hashed = digest(secret.encode())
        row = self._database.execute("SELECT * FROM keys WHERE digest = ?1 OR earlier = ?1", (hashed,)).fetchone()
        if row is not None:
            revoked = ", which is revoked" if row["revoked"] is not None else ""
            raise DoesNotFit(
                f"This secret is that of the key {row['name']}{revoked}.", "Give every key its own secret."
            )
        return hashed

    def _tell(self, what: str, key: Key) -> None:
        """Let heads see that the key changed, and people what happened."""
        self._database.execute(
            "UPDATE keys SET revision = (SELECT max(revision) + 1 FROM keys) WHERE id = ?", (key.id,)
        )
        events.tell(self._database, self._clock(), None, f"key.{what}", f"{key.name} ({key.id})")


def _new_id() -> str:
    return "key-" + "".join(secrets.choice(_ID_LETTERS) for _ in range(8))


def _check_expiry(expires: float | None, now: float) -> None:
    if expires is not None and expires <= now:
        raise BadInput("A key cannot expire in the past.", "Give a time to come, such as 30d; `revoke` ends a key now.")


def _key(row: sqlite3.Row) -> Key:
    shown = {field: row[field] for field in Key.model_fields if field != "limits"}
    try:
        # Another version may have written limits that this one does not know; it must not serve without them.
        limits = Limits.model_validate_json(row["limits"])
        return Key.model_validate(shown | {"limits": limits})
    except ValidationError as error:
        raise CorralError(
            f"What is written of the key {row['name']} cannot be read: {error.errors()[0]['msg']}.",
            "Use the version of Corral that wrote it, or point CORRAL_HOME to another folder.",
        ) from error
