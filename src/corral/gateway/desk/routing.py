"""Which replica a request goes to: the one where it is expected to be answered first; knows no queue and no key."""

from collections.abc import Sequence
from typing import Final, TypeAlias

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
    found: list[tuple[float, _Estimate]] = []
    for state in replicas:
        if state.free() and state.replica.id not in ticket.tried:
            known = state.prefixes.known(prefix) if prefix else 0
            seconds = state.estimate(ticket, output, known, now)
            found.append((seconds, (state, known, ticket.backlog, ticket.prefill, ticket.decode)))
    if len(found) < 2:
        return found[0][1][0] if found else None
    least = min(found, key=_first)[1]
    chosen = min([other for _, other in found if _alike(other, least)], key=_last_grant)
    chosen[0].estimate(ticket, output, chosen[1], now)
    return chosen[0]


# Replica, blocks known there, and seconds: backlog, prefill, decode.
_Estimate: TypeAlias = tuple[ReplicaState, int, float, float, float]


def _alike(one: _Estimate, least: _Estimate) -> bool:
    """Whether one is as good as the one with the fewest seconds, as far as can be known."""
    return (
        one[2] <= least[2]
        and one[3] <= _ALIKE * least[3]
        and one[4] <= _ALIKE * least[4]
        and one[0].shunned_until <= least[0].shunned_until
    )


def _first(entry: tuple[float, _Estimate]) -> float:
    return entry[0]


def _last_grant(entry: _Estimate) -> int:
    return entry[0].last_grant
