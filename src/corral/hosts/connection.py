"""How a machine is reached, in plain values; knows no cluster file and opens nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Connection:
    """An SSH destination. What is None comes from the user's own SSH configuration or its defaults."""

    name: str  # the node's, for messages
    address: str  # an address, a name, or a Host of ~/.ssh/config
    user: str | None = None
    port: int | None = None
    key: str | None = None  # path of a private key
    known_hosts: str | None = None  # path of a known-hosts file
    jump: str | None = None  # [user@]host[:port] to go through, several separated by commas

    @property
    def target(self) -> str:
        """The destination as ssh(1) takes it: "-p 2222 ann@10.0.0.2"."""
        port = f"-p {self.port} " if self.port not in (None, 22) else ""
        return f"{port}{self.user}@{self.address}" if self.user else f"{port}{self.address}"

    @property
    def entry(self) -> str:
        """The destination as a known-hosts file writes it: "[10.0.0.2]:2222"."""
        return f"[{self.address}]:{self.port}" if self.port not in (None, 22) else self.address

    def hop(self) -> "Connection | None":
        """Return the jump host to come from, itself through those before it; None when there is none."""
        if not self.jump:
            return None
        before, _, last = self.jump.rpartition(",")
        user, _, place = last.strip().rpartition("@")
        host, port = _split_port(place)
        return Connection(
            name=f"the jump host {host} of {self.name}",
            address=host,
            user=user or None,
            port=port,
            key=self.key,
            known_hosts=self.known_hosts,
            jump=before or None,
        )


def _split_port(place: str) -> tuple[str, int | None]:
    """Split host[:port]; an IPv6 address with a port stands in brackets."""
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.rpartition(":")
        if ":" in host or not host:
            return place, None
    return (host, int(port)) if port.isdecimal() else (host if place.startswith("[") else place, None)
