"""Where the time of a step goes, in shares and words; knows no layout."""

from collections.abc import Callable, Iterable
from typing import Final, Literal

from corral.planner.speed.values import Speed, Term

_COMMUNICATION: Final = ("all-reduce", "all-to-all", "hand-off")


def shares(speed: Speed, phase: Literal["decode", "prefill"]) -> tuple[tuple[str, float, float], ...]:
    """The terms of a phase as (name, share of the phase, seconds), the largest first; parts of one thing together."""
    joined: dict[str, float] = {}
    for term in speed.terms:
        if term.phase == phase:
            name = plain(term)
            joined[name] = joined.get(name, 0.0) + term.seconds
    whole = sum(joined.values())
    if whole <= 0:
        return ()
    found = ((name, seconds / whole, seconds) for name, seconds in joined.items())
    return tuple(sorted(found, key=lambda part: -part[1]))


def plain(term: Term) -> str:
    """A term's name with what it is a part of: "weights: dense" and "weights: experts" are both weights."""
    head, _, _ = term.name.partition(":")
    return head


def communication_share(speed: Speed) -> float:
    """The share of a decode step that ranks spend on talking to each other."""
    return _share(speed, lambda name: name.startswith(_COMMUNICATION))


def sentence(parts: Iterable[tuple[str, float, float]], least: float = 0.02) -> str:
    """For example "71 % weights, 12 % all-reduce over roce-200g"; what is below `least` is left out."""
    return ", ".join(f"{share:.0%} {name}".replace("%", " %", 1) for name, share, _ in parts if share >= least)


def _share(speed: Speed, belongs: Callable[[str], bool]) -> float:
    whole = sum(term.seconds for term in speed.terms if term.phase == "decode")
    part = sum(term.seconds for term in speed.terms if term.phase == "decode" and belongs(term.name))
    return part / whole if whole > 0 else 0.0
