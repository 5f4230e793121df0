"""Keeps a gateway's keyring as the database has it; knows no request."""

import asyncio
import sqlite3
import sys
from typing import Final, NoReturn

from corral.errors import CorralError
from corral.gateway.desk.values import KeyLimits
from corral.gateway.keyring import Entry, Identity, Keyring
from corral.store.keys import KeyStore
from corral.store.keyvalues import Key

LOOK_SECONDS: Final = 0.25  # between two looks: within that, a key that is revoked elsewhere is refused


class KeyWatch:
    """Looks for changes and hands the keys over as a whole."""

    def __init__(self, store: KeyStore, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring
        self._seen: int | None = None

    def look(self) -> None:
        """Bring the keyring up to date; CorralError when the database cannot be read (it then stays as it is)."""
        revision = self._store.revision()
        if revision == self._seen:
            return
        entries = [Entry(secret.digest, _identity(secret.key), secret.until) for secret in self._store.secrets()]
        self._keyring.replace(entries, configured=self._store.configured())
        self._seen = revision

    async def run(self) -> NoReturn:
        """Look for ever. A database that cannot be read just now closes and opens no door."""
        trouble = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
                trouble = ""
            except (CorralError, sqlite3.Error) as error:
                if str(error) != trouble:
                    sys.stderr.write(f"{error}\n")
                trouble = str(error)


def _identity(key: Key) -> Identity:
    return Identity(key.id, admin=key.admin, limits=KeyLimits(id=key.id, **key.limits.model_dump()))
