"""Accelerators as the planner needs them, in SI units; knows where each figure comes from, and no machine."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, get_args

from corral.catalog.entries import Table, entry_ids, entry_of, in_si
from corral.values import Value

NumberFormat = Literal["fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4"]
Vendor = Literal["nvidia", "amd", "apple", "intel", "arm"]
FORMATS: Final[tuple[NumberFormat, ...]] = get_args(NumberFormat)


class DeviceSpec(Value):
    """One accelerator (or CPU that serves as one). Rates are peaks of the data sheet, dense, one direction."""

    id: str  # "gb10"
    name: str  # "NVIDIA GB10 (DGX Spark)"
    vendor: Vendor
    kind: Literal["datacenter", "workstation", "consumer", "soc", "cpu"]
    generation: str  # "blackwell", "ada", "ampere", "volta", "pascal", "rdna4", "cdna2", "gcn5", "m4", ...
    capability: str | None = None  # NVIDIA "12.1", AMD "gfx1151"
    memory: int  # bytes, as the maker states them
    usable: int  # bytes that ranks may use: what the driver or, with unified memory, the system leaves
    unified: bool = False
    bandwidth: float  # bytes a second
    flops: Mapping[NumberFormat, float]  # dense operations a second of each format the device computes in
    matrix: frozenset[NumberFormat]  # formats with tensor (matrix) cores
    power_limit: float  # watts, stock
    power_idle: float | None = None  # watts
    power_min: float | None = None  # watts, the lowest limit that can be set
    pcie: float | None = None  # bytes a second, one direction
    peer: str | None = None  # catalog id of the link between devices of one domain: "nvlink2"
    estimated: tuple[str, ...] = ()  # names of facts that no source states: "usable", "fp16"


@lru_cache(maxsize=256)
def device(name: str) -> DeviceSpec:
    """The device of this catalog id, alias or maker's name ("NVIDIA GB10"), in any case.

    BadInput with near matches when the catalog has none.
    """
    remedy = (
        "Name one of `corral catalog list devices`, or describe it in the cluster file: "
        'its "vendor", "memory", "bandwidth", "flops" and "power_limit".'
    )
    return _device(entry_of("devices", name, remedy))


def known_devices() -> tuple[str, ...]:
    """The ids of all devices of the catalog."""
    return entry_ids("devices")


def _device(entry: Table) -> DeviceSpec:
    facts: Mapping[str, Table] = entry["facts"]
    named = ("id", "name", "vendor", "kind", "generation", "unified", "peer")
    quantities = ("memory", "usable", "bandwidth", "power_limit", "power_idle", "power_min", "pcie")
    return DeviceSpec.model_validate(
        {name: entry[name] for name in named if name in entry}
        | {name: in_si(facts[name]) for name in quantities if name in facts}
        | {
            "capability": facts["capability"]["value"] if "capability" in facts else None,
            "flops": {name: in_si(facts[name]) for name in FORMATS if name in facts},
            "matrix": facts["matrix"]["value"],
            "estimated": [name for name, fact in facts.items() if fact["confidence"] == "estimated"],
        }
    )
