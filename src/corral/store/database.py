"""Opens the one database, makes it private, and brings its tables up to date; knows nothing of what they mean."""

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from corral.errors import BadInput, CorralError

# Append only: a database remembers how many of these it has seen.
MIGRATIONS: Final = (
    """
    CREATE TABLE deployments (
        name TEXT PRIMARY KEY,
        request TEXT NOT NULL,
        desired TEXT NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '{}',
        created REAL NOT NULL,
        changed REAL NOT NULL
    ) STRICT;
    CREATE TABLE progress (
        deployment TEXT NOT NULL,
        stage TEXT NOT NULL,
        subject TEXT NOT NULL,
        fraction REAL,
        text TEXT NOT NULL,
        changed REAL NOT NULL,
        PRIMARY KEY (deployment, stage, subject)
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        deployment TEXT,
        kind TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT;
    """,
    # A key that is forgotten stays as a name for its usage, without a digest. `revision` grows with every change, so
    # that a head sees one by looking at the largest.
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest BLOB UNIQUE,
        earlier BLOB UNIQUE,
        earlier_until REAL,
        admin INTEGER NOT NULL,
        limits TEXT NOT NULL,
        created REAL NOT NULL,
        expires REAL,
        revoked REAL,
        forgotten REAL,
        last_used REAL,
        revision INTEGER NOT NULL UNIQUE
    ) STRICT;
    CREATE UNIQUE INDEX living_keys ON keys (name) WHERE revoked IS NULL;
    """,
    """
    CREATE TABLE usage (
        day TEXT NOT NULL,
        key TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        errors INTEGER NOT NULL,
        cancelled INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        seconds REAL NOT NULL,
        PRIMARY KEY (day, key, model)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE offers (
        name TEXT PRIMARY KEY,
        position INTEGER NOT NULL,
        offer TEXT NOT NULL,
        changed REAL NOT NULL
    ) STRICT;
    """,
)


def home() -> Path:
    """The folder of all that Corral keeps: $CORRAL_HOME, or ~/.local/share/corral. BadInput for an unknown ~user."""
    named = os.environ.get("CORRAL_HOME") or "~/.local/share/corral"
    try:
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise BadInput(f"The home in {named!r} is not known.", "Set CORRAL_HOME to a folder's whole path.") from None


class StoreFailed(CorralError):
    """The database could not be read or written: its disk is full, or it was taken away."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(
            f"The database {path} cannot be used: {error}.",
            "Free space or mend the permissions there, or point CORRAL_HOME to another folder.",
        )


class Database(sqlite3.Connection):
    """A connection to SQLite whose failures are sentences."""

    path = Path()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401 - as sqlite3 says it
        """Run one statement; StoreFailed when the disk or the file does not let it."""
        try:
            return super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            raise StoreFailed(self.path, error) from error

    @contextmanager
    def transaction(self) -> Generator[None]:
        """One write transaction; an inner one joins the outer."""
        if self.in_transaction:
            yield
            return
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:  # a full disk has ended it already
                self.execute("ROLLBACK")
            raise


def connect(folder: Path) -> Database:
    """Open (or make) the database in the folder, readable by this user alone, with all migrations applied.

    StoreFailed when the disk is full, the folder cannot be written, the file is damaged or from a newer Corral.
    """
    path = folder / "corral.db"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=10, isolation_level=None, factory=Database)
        connection.path = path
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        migrate(connection, path)
    except (sqlite3.Error, OSError) as error:
        raise StoreFailed(path, error) from error
    return connection


def migrate(connection: Database, path: Path) -> None:
    """Apply the migrations that the database has not seen, each in one transaction."""
    seen = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if seen > len(MIGRATIONS):
        raise CorralError(
            f"The database {path} is from a newer Corral: its version is {seen}, this one knows {len(MIGRATIONS)}.",
            "Upgrade Corral, or point CORRAL_HOME to another folder.",
        )
    for number, script in enumerate(MIGRATIONS[seen:], start=seen + 1):
        connection.execute("BEGIN IMMEDIATE")
        if int(connection.execute("PRAGMA user_version").fetchone()[0]) >= number:
            connection.execute("ROLLBACK")  # another process was faster
            continue
        for statement in filter(str.strip, script.split(";")):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
