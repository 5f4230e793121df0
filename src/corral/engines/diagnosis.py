"""Names the rank and the line that a failure began with, out of all ranks' logs; knows no machine."""

import re
from collections.abc import Sequence

from corral.engines.base import Symptom
from corral.values import Value

LINE_LIMIT = 400
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class RankEnd(Value):
    """How one rank stood when the deployment failed."""

    name: str
    node: str
    log: tuple[str, ...]  # its last lines, oldest first
    status: int | None = None  # exit status; None: it still runs
    order: int = 0  # 0 for the rank that was first seen to end


class Cause(Value):
    """What a failure most likely began with."""

    rank: str
    node: str
    cause: str
    remedy: str
    line: str = ""
    symptom: str = ""


def diagnose(symptoms: Sequence[Symptom], ends: Sequence[RankEnd]) -> Cause | None:
    """Pick the likeliest cause: the deepest symptom of any rank, else the rank that ended first with its last line.

    The loudest log often belongs to a victim, so a root cause in a quiet log wins over a consequence in a loud one.
    None when no rank ended and no symptom shows.
    """
    found = [match for end in ends for match in _matches(symptoms, end)]
    if found:
        _, _, cause = min(found, key=lambda match: match[:2])
        return cause
    ended = sorted((end for end in ends if end.status is not None), key=lambda end: (end.status == 0, end.order))
    return _unnamed(ended[0]) if ended else None


def _matches(symptoms: Sequence[Symptom], end: RankEnd) -> list[tuple[int, tuple[int, int], Cause]]:
    """Every symptom of one rank's log, with what it is ranked by."""
    matches: list[tuple[int, tuple[int, int], Cause]] = []
    for symptom in symptoms:
        pattern = re.compile(symptom.pattern)
        for number, raw in enumerate(end.log):
            line = _ANSI.sub("", raw).strip()
            if (match := pattern.search(line)) is not None:
                names = {name: value or "" for name, value in match.groupdict().items()}
                cause = Cause(
                    rank=end.name,
                    node=end.node,
                    cause=symptom.cause.format_map(names),
                    remedy=symptom.remedy.format_map(names),
                    line=line[:LINE_LIMIT],
                    symptom=symptom.id,
                )
                matches.append((symptom.depth, (end.order, number), cause))
                break
    return matches


def _unnamed(end: RankEnd) -> Cause:
    """A rank that ended for a reason that no symptom knows."""
    lines = [line for raw in end.log if (line := _ANSI.sub("", raw).strip())]
    errors = [line for line in lines if re.search(r"error|exception|fatal|failed|abort", line, re.IGNORECASE)]
    line = (errors or lines or [""])[-1][:LINE_LIMIT]
    return Cause(
        rank=end.name,
        node=end.node,
        cause=f"It ended with {how(end.status or 0)}.",
        remedy="Read its log with `corral logs`.",
        line=line,
    )


def how(status: int) -> str:
    """Say an exit status in words: 137 and -9 are both the kill signal."""
    number = -status if status < 0 else status - 128
    names = {
        6: "abort (SIGABRT)",
        9: "a kill (SIGKILL; often the kernel, out of memory)",
        11: "a segmentation fault (SIGSEGV)",
        15: "a termination (SIGTERM)",
    }
    return names.get(number, f"status {status}")
