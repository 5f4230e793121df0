"""Which replica a request goes to: the one where it is expected to be answered first; knows no queue and no key."""

from collections.abc import Sequence
from typing import Final

from corral.gateway.desk.replicas import ReplicaState
from corral.gateway.desk.tickets import Ticket

_ALIKE: Final = 1.1  # speeds are known to a tenth at best: within it, replicas take turns


def choose(replicas: Sequence[ReplicaState], ticket: Ticket, output: float, now: float) -> ReplicaState | None:
    """The replica with the fewest seconds to go, of those that have a place and were not tried; None: there is none.

    The ticket then holds what was expected there. Seconds are: what is still to be read there, plus the part of the
    prompt that is not known there over its speed of reading, plus the answer at its speed of writing beside the others.
    So a replica that knows the prompt has it only while that is worth more than the wait. Of those that are about as
    fast, have no more to do and know no less of the prompt, the one whose last request is the longest ago has it; else
    one of several idle replicas would get them all.
    """
    prefix = ticket.ask.prefix
    found: list[tuple[float, int, ReplicaState]] = []
    for state in replicas:
        if state.free() and state.replica.id not in ticket.tried:
            known = state.prefixes.known(prefix) if prefix else 0
            found.append((state.estimate(ticket, output, known, now), known, state))
    if len(found) < 2:
        return found[0][2] if found else None
    least, known, best = min(found, key=_seconds)
    left, running = best.busy_until, len(best.running)
    alike = [
        (state.last_grant, knows, state)
        for seconds, knows, state in found
        if seconds <= _ALIKE * least
        and knows >= known
        and len(state.running) <= running
        and (state.busy_until <= left or state.busy_until <= now)
    ]
    _, known, best = min(alike, key=_last_grant)
    best.estimate(ticket, output, known, now)
    return best


def _seconds(entry: tuple[float, int, ReplicaState]) -> float:
    return entry[0]


def _last_grant(entry: tuple[int, int, ReplicaState]) -> int:
    return entry[0]
