"""Links as the planner needs them, in SI units; knows no topology."""

from functools import lru_cache
from typing import Final, Literal

from corral.catalog.devices import DeviceSpec
from corral.catalog.entries import UNITS, entry_ids, entry_of, find_entry, in_si
from corral.values import Value

_REMEDY: Final = (
    "Name one of `corral catalog list links`, or give a measured bandwidth and latency in the cluster file."
)


class LinkSpec(Value):
    """What joins two devices of a node, or two nodes. `latency` is that of one small message, seconds, one way."""

    id: str  # "roce-200g", "nvlink2", "pcie3-p2p", "tb5-rdma", "none"
    name: str
    scope: Literal["device", "node"]
    bandwidth: float  # bytes a second, one direction, of one device's or one node's port, as achieved by real transfers
    line_rate: float  # bytes a second, as rated
    latency: float  # seconds
    rdma: bool = False


class Operation(Value):
    """What somebody measured over a link with a library: one operation among ranks, at one message size."""

    operation: str  # "all_reduce", "ib_write", "p2p copy", ...
    ranks: str  # "4", "2-4"
    size: int | None = None  # bytes; None: small, or not said
    latency: float | None = None  # seconds
    bandwidth: float | None = None  # bytes a second
    stack: str  # library, version, machines
    source: str


def link(name: str, device: DeviceSpec | None = None) -> LinkSpec:
    """The link of this catalog id, alias or name; BadInput with near matches when the catalog has none.

    "nvlink" alone is that of `device`: NVLink 4 on an H100, NVLink 5 on a B200.
    """
    if name == "nvlink" and device is not None and (device.peer or "").startswith("nvlink"):
        return _link(device.peer or name)
    return _link(name)


def operations(name: str) -> tuple[Operation, ...]:
    """What is known to have been measured over this link, by operation and message size."""
    rows = entry_of("links", name, _REMEDY).get("operations", ())
    return tuple(
        Operation(
            ranks=str(row["ranks"]),
            latency=row["latency"] * UNITS["us"] if "latency" in row else None,
            bandwidth=row["bandwidth"] * UNITS["GB/s"] if "bandwidth" in row else None,
            size=row.get("size"),
            **{field: row[field] for field in ("operation", "stack", "source")},
        )
        for row in rows
    )


def known_links() -> tuple[str, ...]:
    """The ids of all links of the catalog."""
    return entry_ids("links")


def is_link(name: str) -> bool:
    """Whether the catalog knows a link by this id, alias or name."""
    return find_entry("links", name) is not None


def nearest_link(bytes_per_second: int, *, rdma: bool) -> LinkSpec:
    """The fastest Ethernet link whose line rate a port of this speed reaches; the slowest when it reaches none."""
    prefix = "roce-" if rdma else "tcp-"
    ethernet = [_link(name) for name in known_links() if name.startswith(prefix)]
    reached = [spec for spec in ethernet if spec.line_rate <= bytes_per_second]
    if reached:
        return max(reached, key=lambda spec: spec.line_rate)
    return min(ethernet, key=lambda spec: spec.line_rate)


@lru_cache(maxsize=128)
def _link(name: str) -> LinkSpec:
    entry = entry_of("links", name, _REMEDY)
    facts = entry["facts"]
    rates = {field: in_si(facts[field]) for field in ("bandwidth", "line_rate", "latency")}
    return LinkSpec(id=entry["id"], name=entry["name"], scope=entry["scope"], rdma=entry.get("rdma", False), **rates)
