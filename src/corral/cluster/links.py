"""Names for what joins machines and devices, with nominal figures; knows no particular machine.

`bandwidth` is bytes a second in one direction through one port, the line rate of the standard before any protocol's
overhead; real throughput is lower, and a measured value in the cluster file counts for more.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LinkKind:
    """A kind of link: its line rate, whether the memory of the far side is reached without its CPU, and a source."""

    name: str
    bandwidth: int  # bytes a second, one direction, one port
    rdma: bool
    source: str


def _ethernet(gigabits: float, *, rdma: bool) -> LinkKind:
    name = f"{'roce' if rdma else 'tcp'}-{gigabits:g}g"
    return LinkKind(name, int(gigabits * 10**9 / 8), rdma, "IEEE 802.3 line rate")


_ALL: Final = (
    *(_ethernet(gigabits, rdma=False) for gigabits in (1, 2.5, 5, 10, 20, 25, 40, 50, 100, 200, 400)),
    *(_ethernet(gigabits, rdma=True) for gigabits in (10, 25, 40, 50, 100, 200, 400)),
    LinkKind("ib-fdr", 6_800_000_000, rdma=True, source="InfiniBand FDR 4x, 54.4 Gb/s of data"),
    LinkKind("ib-edr", 12_500_000_000, rdma=True, source="InfiniBand EDR 4x, 100 Gb/s"),
    LinkKind("ib-hdr", 25_000_000_000, rdma=True, source="InfiniBand HDR 4x, 200 Gb/s"),
    LinkKind("ib-ndr", 50_000_000_000, rdma=True, source="InfiniBand NDR 4x, 400 Gb/s"),
    LinkKind("tb3", 5_000_000_000, rdma=False, source="Thunderbolt 3, 40 Gb/s"),
    LinkKind("tb4", 5_000_000_000, rdma=False, source="Thunderbolt 4, 40 Gb/s"),
    LinkKind("tb5", 10_000_000_000, rdma=False, source="Thunderbolt 5, 80 Gb/s"),
    LinkKind("tb5-rdma", 10_000_000_000, rdma=True, source="Thunderbolt 5, 80 Gb/s, RDMA of macOS 26.2 and later"),
)
KINDS: Final = {kind.name: kind for kind in _ALL}


def nearest_kind(bytes_per_second: int, *, rdma: bool) -> LinkKind:
    """The fastest Ethernet kind that a port of this speed reaches; the slowest one when it reaches none."""
    ethernet = [kind for kind in _ALL if kind.name.startswith("roce-" if rdma else "tcp-")]
    reached = [kind for kind in ethernet if kind.bandwidth <= bytes_per_second]
    return max(reached, key=lambda kind: kind.bandwidth) if reached else ethernet[0]
