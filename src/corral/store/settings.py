"""What a head was told of the endpoint, kept for the one that follows it when it was killed; knows no socket."""

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from corral.cluster.endpoint import EndpointSettings
from corral.store.database import connect, home

_NAME: Final = "endpoint"


def remember_endpoint(settings: EndpointSettings, folder: Path | None = None) -> None:
    """Write down what the head that starts now was told."""
    database = connect(folder or home())
    try:
        written = settings.model_dump_json(exclude_none=True)
        database.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (_NAME, written))
    finally:
        database.close()


def endpoint_of_last_head(folder: Path | None = None) -> EndpointSettings:
    """What the last head was told; nothing when there was none, or when another version wrote what it was."""
    database = connect(folder or home())
    try:
        row = database.execute("SELECT value FROM settings WHERE name = ?", (_NAME,)).fetchone()
    finally:
        database.close()
    try:
        return EndpointSettings() if row is None else EndpointSettings.model_validate_json(row["value"])
    except ValidationError:
        return EndpointSettings()
