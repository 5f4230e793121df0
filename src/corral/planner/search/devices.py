"""A device of the cluster file -> what the planner needs to know of it; the catalog's facts, then the file's own."""

from typing import Final

from corral.catalog.devices import DeviceSpec, device
from corral.catalog.links import LinkSpec, link
from corral.cluster.values import Device, Node
from corral.errors import BadInput
from corral.planner.search.doubts import doubtful
from corral.units import GIB

# A maker's 16 GB card shows a little less or more than that, depending on ECC and on who counts: the same card.
_SAME_MEMORY: Final = 0.12
# Of main memory, what the system and its programs leave to ranks where nothing better is known.
_LEFT_BY_SYSTEM: Final = 0.9
# A machine without accelerators and without figures of its own is taken for one with two channels of DDR4-3200
# (51.2 GB/s by JEDEC's rate), of which programs reach about four fifths; a core does 16 fused multiply-adds a cycle.
_CPU_BANDWIDTH: Final = 40e9
_CPU_CORE_FLOPS: Final = 32 * 2.5e9
_CPU_CORE_WATTS: Final = 8.0

# What engines run on a device of these makers is told by its compute capability.
_BY_CAPABILITY: Final = ("nvidia",)
_COMPUTES: Final = ("fp16", "bf16", "fp32")
_EXAMPLES: Final = {
    "bandwidth": "900 GB/s",
    "flops": "{fp16: 125 TFLOPS}",
    "capability": "'8.9'",
    "memory": "24 GiB",
}


class DeviceSpecs:
    """Devices of one cluster, each described once, so that equal ones are the same object."""

    def __init__(self) -> None:
        self._known: dict[object, DeviceSpec] = {}

    def of(self, entry: Device, node: str) -> DeviceSpec:
        """What is known of a device of this node. BadInput names the keys to give when the catalog lacks it."""
        key = (entry.name, entry.vendor, entry.memory, entry.unified, entry.bandwidth, entry.power_idle,
               entry.power_limit, entry.capability, tuple(sorted(entry.flops.items())))  # fmt: skip
        if key not in self._known:
            self._known[key] = _device_spec(entry, node)
        return self._known[key]


def _device_spec(entry: Device, node: str) -> DeviceSpec:
    try:
        known = device(entry.name)
    except BadInput as error:
        if entry.bandwidth is None or _missing(entry):
            raise _unknown(entry, node, error) from None
        return _described(entry, entry.bandwidth)
    doubt = doubtful(entry, known)
    if doubt is not None:
        raise BadInput(f"Node {node}: {doubt}", "Correct it in the cluster file, or give the device another name.")
    corrections = _corrections(entry, known)
    return known.model_copy(update=corrections) if corrections else known


def _corrections(entry: Device, known: DeviceSpec) -> dict[str, object]:
    """What the file says otherwise, or in more detail."""
    fields: dict[str, object] = {}
    ratio = entry.memory / known.memory if entry.memory else 1.0
    if abs(ratio - 1) > _SAME_MEMORY:
        fields |= {"memory": entry.memory, "usable": int(known.usable * ratio)}
    elif entry.memory and entry.memory < known.usable:
        fields["usable"] = entry.memory
    if entry.bandwidth is not None:
        fields["bandwidth"] = float(entry.bandwidth)
    if entry.flops:
        fields["flops"] = {**known.flops, **entry.flops}
    if entry.power_idle is not None:
        fields["power_idle"] = entry.power_idle
    if entry.capability is not None and known.capability is None:
        fields["capability"] = entry.capability
    return fields


def _described(entry: Device, bandwidth: float) -> DeviceSpec:
    """A device known only from the cluster file."""
    return DeviceSpec(
        id=entry.name.lower().replace(" ", "-"),
        name=entry.name,
        vendor=entry.vendor,
        kind="soc" if entry.unified else "workstation",
        generation="unknown",
        capability=entry.capability,
        memory=entry.memory,
        usable=int(entry.memory * (_LEFT_BY_SYSTEM if entry.unified else 1)),
        unified=entry.unified,
        bandwidth=bandwidth,
        flops=entry.flops,
        matrix=frozenset(name for name in entry.flops if name != "fp32"),
        power_limit=entry.power_limit or 300.0,
        power_idle=entry.power_idle,
        estimated=("usable", "matrix", *(() if entry.power_limit else ("power_limit",))),
    )


def _missing(entry: Device) -> tuple[str, ...]:
    """The keys without which a device that the catalog lacks cannot be planned with."""
    computes = any(name in entry.flops for name in _COMPUTES)
    there = {
        "bandwidth": entry.bandwidth is not None,
        "flops": computes,
        "capability": entry.capability is not None or entry.vendor not in _BY_CAPABILITY,
        "memory": entry.memory > 0,
    }
    return tuple(name for name, given in there.items() if not given)


def _unknown(entry: Device, node: str, error: BadInput) -> BadInput:
    missing = _missing(entry)
    examples = ", ".join(f"`{name}: {_EXAMPLES[name]}`" for name in missing)
    return BadInput(
        f"{error.cause.rstrip('.')} (node {node}), and the cluster file does not say {_and(missing)} of it.",
        f"Give that device {examples} in the cluster file (power_limit and power_idle help too), or a name that"
        " `corral catalog list devices` has.",
    )


def _and(words: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def cpu_spec(node: Node) -> tuple[DeviceSpec, str] | None:
    """A node without accelerators as a device, and what had to be assumed; None when its memory is not known."""
    if node.cpu is None or node.memory is None:
        return None
    cpu = node.cpu
    flops = cpu.cores * _CPU_CORE_FLOPS
    known = cpu.bandwidth is not None
    spec = DeviceSpec(
        id="cpu",
        name=cpu.model if cpu.model != "unknown" else f"CPU with {cpu.cores} cores",
        vendor="arm" if cpu.architecture.startswith(("aarch", "arm")) else "intel",
        kind="cpu",
        generation="unknown",
        memory=node.memory,
        usable=int(node.memory * _LEFT_BY_SYSTEM),
        unified=True,
        bandwidth=float(cpu.bandwidth or _CPU_BANDWIDTH),
        flops={"fp32": flops, "fp16": flops, "bf16": flops, "int8": 2 * flops},
        matrix=frozenset(),
        power_limit=cpu.cores * _CPU_CORE_WATTS,
        estimated=("usable", "flops", "power_limit", *(() if known else ("bandwidth",))),
    )
    assumed = "" if known else f"main memory of {_CPU_BANDWIDTH / 1e9:g} GB/s (give `bandwidth` under `cpu`), and "
    return spec, f"On {node.name}, which has no accelerator, {assumed}{flops / 1e12:.1f} TFLOPS are assumed."


def peer_link(entry: Device, spec: DeviceSpec, node: str) -> LinkSpec | None:
    """What joins the devices of one entry: as the file says, else as the catalog knows the device, else PCIe."""
    if entry.count == 1:
        return None
    if entry.link is None and spec.peer is None:
        return pcie_link(spec)
    try:
        found = link(entry.link or spec.peer or "", spec)
        why = "" if found.scope == "device" else f"{found.name} joins nodes."
    except BadInput as error:
        why = error.cause
    else:
        if not why:
            return found
    raise BadInput(
        f"Node {node} joins its devices by {entry.link!r}: {why}",
        "Write a link that `corral catalog list links` names, such as nvlink2 or pcie4.",
    )


def pcie_link(spec: DeviceSpec) -> LinkSpec:
    """PCIe of the device's generation, without direct access between devices where nobody says there is."""
    rate = spec.pcie or 16e9
    return link("pcie5" if rate > 40e9 else "pcie4" if rate > 20e9 else "pcie3")


MEMORY_FLOOR: Final = GIB
"""A device with less usable memory takes no rank."""
