"""What a cluster file says of a device that cannot be true of it, mostly units mixed up; knows no other device."""

from collections.abc import Iterator
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.cluster.values import Device
from corral.units import GIB

# Cards are sold with half and twice the memory of their siblings, and drivers' limits go to a third; bits taken for
# bytes, or MW for mW, are further off.
_TIMES: Final = 4.0


def doubtful(entry: Device, known: DeviceSpec) -> str | None:
    """One sentence on the first figure that is several times the catalog's, or a part of it; None when all may be."""
    if entry.vendor != known.vendor:
        return f"{known.name} is made by {known.vendor}, not by {entry.vendor}."
    if entry.power_limit is not None and entry.power_limit < (known.power_idle or 0.0):
        return f"A power limit of {entry.power_limit:.3g} W is given for {known.name}, which draws more at rest."
    if entry.power_limit is not None and entry.power_limit > known.power_limit * _TIMES:
        return f"A power limit of {entry.power_limit:.5g} W is given for {known.name}, of {known.power_limit:.0f} W."
    for said, stated in _pairs(entry, known):
        value, what, hint = said
        if value is not None and not stated / _TIMES <= value <= stated * _TIMES:
            return f"{what} is given for {known.name}, which has {_like(what, stated)}{hint}."
    return None


def _pairs(entry: Device, known: DeviceSpec) -> Iterator[tuple[tuple[float | None, str, str], float]]:
    if entry.memory and not known.unified:  # unified memory comes in every size
        yield (entry.memory, f"A memory of {entry.memory / GIB:.3g} GiB", ""), known.memory
    if entry.bandwidth:
        hint = " (Gb/s are bits, GB/s bytes)"
        yield (entry.bandwidth, f"A bandwidth of {entry.bandwidth / 1e9:.4g} GB/s", hint), known.bandwidth
    for name, rate in entry.flops.items():
        if name in known.flops:
            yield (rate, f"A rate in {name} of {rate / 1e12:.4g} TFLOPS", ""), known.flops[name]


def _like(what: str, stated: float) -> str:
    """The catalog's figure in the unit of the sentence."""
    if what.endswith("GiB"):
        return f"{stated / GIB:.3g} GiB"
    return f"{stated / 1e9:.4g} GB/s" if what.endswith("GB/s") else f"{stated / 1e12:.4g} TFLOPS"
