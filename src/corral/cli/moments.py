"""Moments as people write them: "30d" from now, or a date; knows no clock."""

import re
from datetime import UTC, datetime
from typing import Final

from corral.errors import BadInput

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_SPAN: Final = re.compile(r"([0-9]{1,6})([mhdw])", re.ASCII)
_REMEDY: Final = "Write a span such as 90m, 12h, 30d or 4w, or a day such as 2027-01-31 (UTC)."


def span(text: str) -> float:
    """Seconds of "90m", "12h", "30d" or "4w"; BadInput for anything else."""
    matched = _SPAN.fullmatch(text)
    if matched is None:
        raise BadInput(f"{text[:40]!r} is no span of time.", "Write a number and m, h, d or w, such as 30d.")
    return int(matched[1]) * float(_SECONDS[matched[2]])


def ahead(text: str, now: float) -> float:
    """The moment that lies a span after `now`, or the end of the named day; seconds since the epoch."""
    return now + span(text) if _SPAN.fullmatch(text) else _midnight(text) + _SECONDS["d"]


def back(text: str, now: float) -> float:
    """The moment that lies a span before `now`, or the beginning of the named day; seconds since the epoch."""
    return now - span(text) if _SPAN.fullmatch(text) else _midnight(text)


def _midnight(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise BadInput(f"{text[:40]!r} is neither a span of time nor a day.", _REMEDY) from None
