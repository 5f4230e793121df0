"""Breakers and bills: what hangs on a circuit, what may be drawn for hours, what a month costs; knows no model."""

from collections.abc import Sequence
from typing import Final

from corral.cluster.values import Circuit, Price
from corral.planner.plan import CircuitLoad, Money, Power

# What a breaker may carry for three hours and more: 80 % of its rating (NEC 210.19(A), 210.20(A)); a rule of thumb
# elsewhere too.
CONTINUOUS: Final = 0.8
HOURS_A_MONTH: Final = 730.0


def circuit_loads(circuits: Sequence[Circuit], power: Power) -> tuple[CircuitLoad, ...]:
    """For each breaker the most that its nodes draw for longer than a moment."""
    by_node = {node.node: node.most for node in power.nodes}
    loads: list[CircuitLoad] = []
    for circuit in circuits:
        watts = sum(by_node.get(name, 0.0) for name in circuit.nodes)
        rating = circuit.volts * circuit.amps
        loads.append(
            CircuitLoad(
                circuit=circuit.name,
                nodes=circuit.nodes,
                watts=watts,
                amps=watts / circuit.volts,
                continuous=rating * CONTINUOUS,
                rating=rating,
            )
        )
    return tuple(loads)


def circuit_warnings(loads: Sequence[CircuitLoad]) -> tuple[str, ...]:
    """One sentence for each breaker that would be loaded beyond what it may carry for hours."""
    return tuple(
        f"Circuit {load.circuit} would carry {load.watts:.0f} W ({load.amps:.1f} A) where {load.continuous:.0f} W may"
        f" be drawn for hours (80 % of {load.rating:.0f} W)"
        + ("; its breaker trips." if load.watts > load.rating else ".")
        for load in loads
        if load.headroom < 0
    )


def money(price: Price | None, power: Power) -> Money | None:
    """Cost of electricity at this price; None without one."""
    if price is None:
        return None
    return Money(
        currency=price.currency,
        per_kwh=price.amount,
        month_idle=power.idle / 1000 * HOURS_A_MONTH * price.amount,
        month_busy=power.decode / 1000 * HOURS_A_MONTH * price.amount,
        per_million_tokens=power.wh_per_1000 * price.amount,
    )
