"""The names of model files that come in several parts; knows no format and opens no file."""

import re
from pathlib import Path
from typing import Final

from corral.errors import BadInput

_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.[a-z]+)")
_MAX_SHARDS: Final = 10_000


def shard_names(name: str) -> tuple[str, ...]:
    """All parts' names, the first first, of the model that a file belongs to; the name itself when it has no parts."""
    matched = _SHARD.fullmatch(name)
    if matched is None or not 1 <= int(matched["count"]) <= _MAX_SHARDS:
        return (name,)
    count = int(matched["count"])
    return tuple(f"{matched['stem']}-{number:05}-of-{count:05}{matched['suffix']}" for number in range(1, count + 1))


def without_shard(stem: str) -> str:
    """A file's stem without its shard number: "m-00001-of-00003" -> "m"."""
    return re.sub(r"-\d{5}-of-\d{5}$", "", stem)


def require(folder: Path, names: tuple[str, ...]) -> None:
    """Raise BadInput, naming what is missing, unless every file is in the folder."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise BadInput(
            f"{folder} lacks {len(missing)} of the model's {len(names)} files: {some}.",
            "Fetch the missing files, or the whole model again.",
        )
