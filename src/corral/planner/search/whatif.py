"""The chosen layout under other links and power limits; knows no wording."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

from corral.catalog.links import LinkSpec, link
from corral.cluster.values import Circuit
from corral.planner.circuits import circuit_loads
from corral.planner.plan import Candidate, LimitEffect, LinkCost, Power
from corral.planner.reasons import communication_share
from corral.planner.search.assemble import power_of
from corral.planner.search.find import Weighed, find
from corral.planner.search.judge import Asked, Trial, speed, trial
from corral.planner.search.machines import Fleet
from corral.planner.speed.values import Speed

# What people weigh against each other between machines: NVLink as if they were one, InfiniBand, Ethernet.
LINKS: Final = ("nvlink4", "ib-ndr", "roce-200g", "roce-100g", "tcp-100g", "tcp-10g", "tcp-1g")
_LIMITS: Final = (1.0, 0.85, 0.7, 0.6, 0.5)


def interconnect(asked: Asked, fleet: Fleet, chosen: Weighed) -> tuple[LinkCost, ...]:
    """What each kind of link between the machines would make of the chosen engine and format.

    For each link: the chosen layout over it, and which layout is best there. Empty for one machine.
    """
    if len(chosen.trial.shape.machines) < 2:
        return ()
    costs: list[LinkCost] = []
    for name in LINKS:
        spec = link(name)
        moved = _over(chosen.trial, spec)
        same = speed(asked, moved, asked.power_limit)
        best = find(asked, _joined(fleet, spec), (chosen.trial.offer,)).weighed[0]
        # What was measured of one kind of link may flatter it against a faster one: no slower link is told as faster.
        above = costs[-1] if costs else None
        costs.append(
            LinkCost(
                link=name,
                title=spec.name.partition(" (")[0],
                decode=min(same.decode.value, above.decode if above else math.inf),
                ttft=max(same.ttft.value, above.ttft if above else 0.0),
                communication=max(communication_share(same), above.communication if above else 0.0),
                best_layout=str(best.trial.degrees),
                best_nodes=len(best.trial.shape.machines),
                best_decode=min(best.speed.decode.value, above.best_decode if above else math.inf),
            )
        )
    return tuple(costs)


def _over(one: Trial, spec: LinkSpec) -> Trial:
    return trial(replace(one.shape, outer=spec), one.degrees, one.offer, one.layers)


def _joined(fleet: Fleet, spec: LinkSpec) -> Fleet:
    pairs = combinations(range(len(fleet.machines)), 2)
    return replace(fleet, links=dict.fromkeys(pairs, spec))


def limit_effects(asked: Asked, fleet: Fleet, chosen: Weighed, made: Candidate) -> tuple[LimitEffect, ...]:
    """The chosen layout at lower power limits of each device, down to the lowest that can be set."""
    device = max(chosen.trial.shape.devices, key=lambda device: device.power_limit)
    if device.kind == "cpu":
        return ()
    lowest = device.power_min or 0.0
    highest = min(limit for limit in (device.power_limit, asked.power_limit, chosen.trial.shape.limit) if limit)
    effects: list[LimitEffect] = []
    for share in _LIMITS:
        limit = highest * share
        if effects and limit < lowest:
            break
        limited, power = at_limit(asked, fleet, chosen, made, limit)
        effects.append(
            LimitEffect(
                limit=limit,
                decode=limited.decode.value,
                prefill=limited.prefill.value,
                watts=power.decode,
                most_watts=max(power.decode, power.prefill),
                wh_per_1000=power.wh_per_1000,
            )
        )
    return tuple(effects)


def at_limit(asked: Asked, fleet: Fleet, chosen: Weighed, made: Candidate, limit: float) -> tuple[Speed, Power]:
    """Speed and watts of the chosen layout when each device may draw no more than `limit` watts."""
    limited = speed(asked, chosen.trial, limit)
    return limited, power_of(
        asked, fleet, made.ranks, replace(chosen, speed=limited), limit=limit, switches=made.power.other
    )


def limit_for_circuits(
    asked: Asked, fleet: Fleet, chosen: Weighed, made: Candidate, circuits: Sequence[Circuit]
) -> float | None:
    """The highest power limit, in tens of watts, under which no breaker carries too much; None when none does."""
    device = max(chosen.trial.shape.devices, key=lambda device: device.power_limit)
    lowest = device.power_min or device.power_limit / 3
    limit = device.power_limit // 10 * 10
    while limit >= lowest:
        _, power = at_limit(asked, fleet, chosen, made, limit)
        if all(load.headroom >= 0 for load in circuit_loads(circuits, power)):
            return limit
        limit -= 10
    return None
