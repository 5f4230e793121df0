"""Boards, servers and small machines that hold devices: how many, and how they are joined; knows no cluster."""

from functools import lru_cache
from typing import Literal

from corral.catalog.entries import Table, entry_ids, entry_of, in_si
from corral.values import Value


class Domain(Value):
    """Devices of one board that reach each other over `link` (a catalog id) without their host.

    `pairs` names (device, device, how many links join the two); without it a switch joins all at their full rate.
    """

    link: str
    devices: tuple[int, ...]  # places on the board, from 0
    pairs: tuple[tuple[int, int, int], ...] = ()


class BoardSpec(Value):
    """What is sold as one piece with devices on it, or with places for them."""

    id: str  # "4029gp-tvrt"
    name: str
    maker: str
    kind: Literal["board", "server", "machine"]  # a board needs a host, a machine has its device in it
    devices: tuple[str, ...]  # catalog ids that fit, the usual one first
    count: int  # devices
    domains: tuple[Domain, ...] = ()
    host: str  # catalog id of the link from one device to its host
    fabric: tuple[str, ...] = ()  # catalog ids of the links to other nodes that it comes with
    power_supply: float | None = None  # watts, all supplies
    power_rest: float | None = None  # watts of all but the devices, under load
    price_low: float | None = None  # US dollars, on the date of its fact
    price_high: float | None = None
    slots: int | None = None  # free PCIe slots for network cards

    def domain_of(self, place: int) -> Domain | None:
        """The domain that the device at this place belongs to; None when it has none."""
        return next((domain for domain in self.domains if place in domain.devices), None)

    def links_between(self, one: int, other: int) -> int | None:
        """How many NVLinks join two places: 0 for none, None where a switch gives the device's full rate."""
        domain = self.domain_of(one)
        if domain is None or other not in domain.devices:
            return 0
        if not domain.pairs:
            return None
        return sum(count for first, second, count in domain.pairs if {first, second} == {one, other})


@lru_cache(maxsize=64)
def board(name: str) -> BoardSpec:
    """The board of this catalog id, alias or name; BadInput with near matches when the catalog has none."""
    remedy = "Name one of `corral catalog list boards`, or write its devices and their link into the cluster file."
    return _board(entry_of("boards", name, remedy))


def known_boards() -> tuple[str, ...]:
    """The ids of all boards of the catalog."""
    return entry_ids("boards")


def _board(entry: Table) -> BoardSpec:
    facts = entry["facts"]
    named = ("id", "name", "maker", "kind", "devices", "host", "fabric")
    quantities = ("count", "power_supply", "power_rest", "price_low", "price_high", "slots")
    domains = [{name: part[name] for name in ("link", "devices", "pairs") if name in part} for part in entry["domains"]]
    return BoardSpec.model_validate(
        {name: entry[name] for name in named if name in entry}
        | {name: in_si(facts[name]) for name in quantities if name in facts}
        | {"domains": domains}
    )
