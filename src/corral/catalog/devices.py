"""Accelerators as the planner needs them, in SI units; knows where each figure comes from, and no machine."""

from collections.abc import Mapping
from typing import Literal

from corral.values import Value

NumberFormat = Literal["fp32", "fp16", "bf16", "fp8", "fp4", "int8", "int4"]
Vendor = Literal["nvidia", "amd", "apple", "intel", "arm"]


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
    estimated: tuple[str, ...] = ()  # names of fields that no source states
