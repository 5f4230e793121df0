"""Network switches: ports, what a port splits into, watts and price; knows no cluster."""

from functools import lru_cache

from corral.catalog.entries import UNITS, Table, entry_ids, entry_of, in_si
from corral.values import Value


class Ports(Value):
    """`count` equal ports of a switch; each may be split by a breakout cable into several slower ones."""

    count: int
    speed: float  # bytes a second
    connector: str  # "QSFP56-DD"
    breakouts: tuple[tuple[int, float], ...] = ()  # (ports, bytes a second of each)

    def offered(self, speed: float) -> int:
        """How many nodes these ports serve at no less than `speed` (bytes a second) each."""
        ways = [(1, self.speed), *self.breakouts]
        return self.count * max((ports for ports, each in ways if each >= speed), default=0)


class SwitchSpec(Value):
    """A switch as a buyer sees it."""

    id: str
    name: str
    maker: str
    ports: tuple[Ports, ...]
    rdma: bool  # whether RoCE runs well on it: priority flow control and ECN in hardware
    power_max: float | None = None  # watts
    price_low: float | None = None  # US dollars, on the date of its fact
    price_high: float | None = None

    def nodes_at(self, speed: float) -> int:
        """How many nodes it joins at no less than `speed` (bytes a second) each, breakout cables included."""
        return sum(ports.offered(speed) for ports in self.ports)


@lru_cache(maxsize=64)
def switch(name: str) -> SwitchSpec:
    """The switch of this catalog id, alias or name; BadInput with near matches when the catalog has none."""
    return _switch(entry_of("switches", name, "Name one of `corral catalog list switches`."))


def known_switches() -> tuple[str, ...]:
    """The ids of all switches of the catalog."""
    return entry_ids("switches")


def _switch(entry: Table) -> SwitchSpec:
    facts = entry.get("facts", {})
    return SwitchSpec.model_validate(
        {name: entry[name] for name in ("id", "name", "maker", "rdma")}
        | {name: in_si(facts[name]) for name in ("power_max", "price_low", "price_high") if name in facts}
        | {"ports": [_ports(part) for part in entry["ports"]]}
    )


def _ports(part: Table) -> Table:
    unit = UNITS[part["unit"]]
    return {
        "count": part["count"],
        "speed": part["speed"] * unit,
        "connector": part["connector"],
        "breakouts": [(ports, each * unit) for ports, each in part.get("breakouts", ())],
    }
