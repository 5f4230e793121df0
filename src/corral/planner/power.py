"""Watts of every node, by what it does, and energy by token; knows no circuit and no price.

At the wall: devices and the rest of the machine, through a power supply. A device draws its limit while it reads
prompts (matrix units are busy), less while it generates (memory is), which the speed model predicts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from corral.planner.plan import NodePower, Power
from corral.planner.search.machines import Machine
from corral.planner.speed.values import Speed

# Share of the drawn power that reaches the machine: 80 PLUS asks 90 % (Gold) to 94 % (Titanium) at half load, 115 V.
SUPPLY_EFFICIENCY: Final = 0.92
# Watts of a machine besides its devices where the cluster file does not say. For servers as their builders budget
# them: 250 W for a host with a board of four cards, 530 W for two processors and the fans of an eight-card server.
_BASE_SERVER: Final = 250.0
_BASE_LARGE_SERVER: Final = 530.0
_BASE_WORKSTATION: Final = 90.0
_BASE_SOC: Final = 15.0
_BASE_CPU: Final = 40.0
# Where no source states what a device draws at rest.
_IDLE_SHARE: Final = 0.08
# Of the limit, where the speed model does not predict what generating draws.
_DECODE_SHARE: Final = 0.7


def base_watts(machine: Machine) -> tuple[float, bool]:
    """Watts of a machine without its devices, and whether that is an assumption."""
    if machine.base_watts is not None:
        return machine.base_watts, False
    kinds = {domain.device.kind for domain in machine.domains}
    if "datacenter" in kinds:
        return (_BASE_LARGE_SERVER if machine.devices > 4 else _BASE_SERVER), True
    if kinds & {"workstation", "consumer"}:
        return _BASE_WORKSTATION, True
    return (_BASE_CPU if "cpu" in kinds else _BASE_SOC), True


def node_power(machine: Machine, used: int, speed: Speed | None, limit: float | None = None) -> NodePower:
    """Watts at the wall of a machine of which `used` devices work; `limit` is a lower power limit for each."""
    base, _ = base_watts(machine)
    idle = prefill = decode = base
    left = used
    for domain in machine.domains:
        device = domain.device
        cap = min(value for value in (device.power_limit, domain.limit, limit) if value is not None)
        rest = device.power_idle if device.power_idle is not None else device.power_limit * _IDLE_SHARE
        rest = min(rest, cap)
        working = min(left, domain.count)
        left -= working
        generating = speed.power.value if speed is not None and speed.power is not None else cap * _DECODE_SHARE
        idle += rest * domain.count
        prefill += cap * working + rest * (domain.count - working)
        decode += max(rest, min(cap, generating)) * working + rest * (domain.count - working)
    return NodePower(
        node=machine.name,
        idle=idle / SUPPLY_EFFICIENCY,
        prefill=prefill / SUPPLY_EFFICIENCY,
        decode=decode / SUPPLY_EFFICIENCY,
    )


def cluster_power(
    machines: Sequence[Machine],
    used: Mapping[str, int],
    speed: Speed,
    *,
    prompt: int,
    output: int,
    limit: float | None = None,
    switches: float = 0.0,
) -> Power:
    """Watts of all machines, of which `used` says how many devices work by name; `speed.output` is of all streams."""
    nodes = tuple(node_power(machine, used.get(machine.name, 0), speed, limit) for machine in machines)
    idle, prefill, decode = (
        sum(getattr(node, phase) for node in nodes) + switches for phase in ("idle", "prefill", "decode")
    )
    return Power(
        nodes=nodes,
        other=switches,
        idle=idle,
        prefill=prefill,
        decode=decode,
        wh_per_1000=_energy(speed, prefill, decode, prompt, output),
        assumptions=_assumptions(machines, switches),
    )


def _energy(speed: Speed, prefill: float, decode: float, prompt: int, output: int) -> float:
    """Watt hours for 1,000 generated tokens.

    `speed.output` counts generated tokens over all the time that streams take, prompts included; of that time the share
    in which prompts are read is drawn at the prefill's watts.
    """
    rate = max(speed.output.value, 1e-9)
    reading = min(1.0, prompt / output * rate / max(speed.prefill.value, 1e-9))
    return 1000 / rate * (reading * prefill + (1 - reading) * decode) / 3600


def _assumptions(machines: Sequence[Machine], switches: float) -> tuple[str, ...]:
    said: list[str] = []
    assumed = {watts for machine in machines for watts, guess in [base_watts(machine)] if guess}
    if assumed:
        words = " or ".join(f"{watts:.0f} W" for watts in sorted(assumed))
        said.append(f"Besides its devices a machine is taken to draw {words} (`power_base` in the cluster file).")
    without = {
        domain.device.name
        for machine in machines
        for domain in machine.domains
        if domain.device.power_idle is None and domain.device.kind != "cpu"
    }
    if without:
        said.append(
            f"At rest {', '.join(sorted(without))} is taken to draw {_IDLE_SHARE * 100:.0f} % of its limit"
            " (`power_idle` in the cluster file)."
        )
    if switches:
        said.append(f"Switches are counted at the highest that they draw, {switches:.0f} W.")
    said.append(f"A power supply is taken to lose {(1 - SUPPLY_EFFICIENCY) * 100:.0f} %.")
    return tuple(said)
