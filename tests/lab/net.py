"""The lab's networks: namespaces, bridges, cables, by iproute2; knows no machine's inside."""

import json
import subprocess
from dataclasses import dataclass
from typing import Literal

from lab.needs import program

Network = Literal["management", "fabric"]
NIC: dict[Network, str] = {"management": "eth0", "fabric": "fab0"}
SWITCH_MTU = 9216  # as real switches are set: the machines' own NICs decide


@dataclass(frozen=True, slots=True)
class Counters:
    """Bytes that a NIC has received and sent, as the kernel counts them."""

    rx: int
    tx: int


def command(*argv: str, namespace: str | None = None) -> str:
    """Run ip, tc or ss, inside a namespace if one is named, and return what it prints."""
    inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    done = subprocess.run([*inside, program(argv[0]), *argv[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"{' '.join(argv)} failed in {namespace or 'the root namespace'}: {done.stderr.strip()}"
        raise RuntimeError(msg)
    return done.stdout


def namespaces(prefix: str) -> list[str]:
    """List the named network namespaces that begin with `prefix`."""
    listed = json.loads(command("ip", "-json", "netns", "list") or "[]")
    return sorted(entry["name"] for entry in listed if entry["name"].startswith(prefix))


def add_namespace(name: str) -> None:
    """Make a network namespace with a working loopback that speaks IPv4 only."""
    command("ip", "netns", "add", name)
    command("ip", "link", "set", "lo", "up", namespace=name)


def add_switch(name: str) -> None:
    """Make the namespace that holds one bridge a network."""
    add_namespace(name)
    for network in NIC:
        command("ip", "link", "add", network, "mtu", str(SWITCH_MTU), "type", "bridge", namespace=name)
        command("ip", "link", "set", network, "up", namespace=name)


def port(machine: str, network: Network) -> str:
    """Name the switch's port that a machine's cable is in: "h1-fab0"."""
    return f"{machine}-{NIC[network]}"


def plug(switch: str, machine: str, network: Network, *, into: str, nic: str, address: str, mtu: int) -> None:
    """Run a cable from the switch to a NIC in `into`: a namespace's name, or the number of a process in it."""
    end = port(machine, network)
    command("ip", "link", "add", end, "mtu", str(SWITCH_MTU), "type", "veth",
            "peer", "name", nic, "mtu", str(mtu), "netns", into, namespace=switch)  # fmt: skip
    command("ip", "link", "set", end, "master", network, "up", namespace=switch)
    inside = None if into.isdigit() else into
    command("ip", "address", "add", f"{address}/24", "dev", nic, namespace=inside)
    command("ip", "link", "set", nic, "up", namespace=inside)


def unplug(nic: str) -> None:
    """Take away a cable whose one end is this NIC of the root namespace, if there is one."""
    if any(entry["ifname"] == nic for entry in json.loads(command("ip", "-json", "link", "show", "type", "veth"))):
        command("ip", "link", "del", nic)


def set_up(namespace: str, nic: str, *, up: bool) -> None:
    """Take a link up or down; the other end of the cable sees it lose its carrier."""
    command("ip", "link", "set", nic, "up" if up else "down", namespace=namespace)


def set_mtu(namespace: str, nic: str, mtu: int) -> None:
    """Set the largest packet, in bytes, that a NIC sends and takes."""
    command("ip", "link", "set", nic, "mtu", str(mtu), namespace=namespace)


def limit(namespace: str, nic: str, bits_per_second: int | None) -> None:
    """Send no faster than this through a NIC (token bucket); None takes the limit away."""
    if bits_per_second is None:
        if "tbf" in command("tc", "qdisc", "show", "dev", nic, namespace=namespace):
            command("tc", "qdisc", "del", "dev", nic, "root", namespace=namespace)
        return
    burst = max(16_000, bits_per_second // 8 // 250)  # bytes: the kernel's clock ticks 250 times a second
    command("tc", "qdisc", "replace", "dev", nic, "root", "tbf", "rate", f"{bits_per_second}bit",
            "burst", str(burst), "latency", "50ms", namespace=namespace)  # fmt: skip


def counters(namespace: str, nic: str) -> Counters:
    """Read a NIC's counters."""
    stats = json.loads(command("ip", "-json", "-statistics", "link", "show", "dev", nic, namespace=namespace))[0][
        "stats64"
    ]
    return Counters(rx=stats["rx"]["bytes"], tx=stats["tx"]["bytes"])


def processes(namespace: str) -> list[int]:
    """List the processes in a namespace."""
    return [int(pid) for pid in command("ip", "netns", "pids", namespace).split()]
