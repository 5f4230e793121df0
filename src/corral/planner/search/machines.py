"""A cluster as the search sees it: devices by domain, links by pair, equal machines known as equal; reads no file.

Facts come from the catalog; what the cluster file says of a device or a link counts for more.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from corral.catalog.devices import DeviceSpec
from corral.catalog.links import LinkSpec


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """Devices of one node that are joined at one speed: a board's NVLink domain, or all that hang on PCIe."""

    first: int  # the node's index of its first device
    count: int
    device: DeviceSpec
    link: LinkSpec | None  # None with one device
    limit: float | None = None  # watts a device, as the cluster file sets it


@dataclass(frozen=True, slots=True, eq=False)
class Machine:
    """A node with its domains; `cross` joins domains to each other. Compared by identity."""

    index: int
    name: str
    domains: tuple[Domain, ...]
    cross: LinkSpec | None
    base_watts: float | None  # at the wall, without the devices; None: not said

    @property
    def devices(self) -> int:
        """How many devices it has."""
        return sum(domain.count for domain in self.domains)

    @property
    def vendor(self) -> str:
        """Who made its devices; the first domain's maker speaks for all."""
        return self.domains[0].device.vendor


@dataclass(frozen=True, slots=True)
class Fleet:
    """All machines that may take ranks, and what joins each pair."""

    machines: tuple[Machine, ...]
    links: Mapping[tuple[int, int], LinkSpec]  # by indices, the smaller first; a pair that nothing joins is missing
    kinds: tuple[int, ...]  # for each machine: machines of one kind may be swapped without changing anything
    assumptions: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()  # (node, why it takes no rank)

    def link(self, one: int, other: int) -> LinkSpec | None:
        """What joins two machines."""
        return self.links.get((one, other) if one < other else (other, one))
