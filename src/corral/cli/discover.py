"""`corral discover`: writes the cluster file from the machines themselves; knows what to show, not how to ask."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.markup import escape
from rich.table import Table

from corral.cli.console import console, print_json, stderr
from corral.cluster.file import dump, parse, read_text
from corral.cluster.merge import merge
from corral.cluster.values import Cluster, Node, Ssh
from corral.errors import BadInput, NodeFailed
from corral.hosts import open_host
from corral.launcher.discovery import Asked, Discovered, discover
from corral.launcher.reach import connection_of
from corral.units import format_bytes, format_rate

FILE: Final = "cluster.yaml"


@dataclass(frozen=True, slots=True)
class Way:
    """How machines named on the command line are reached, where they do not say it themselves."""

    user: str | None = None
    key: str | None = None
    known_hosts: str | None = None
    jump: str | None = None


def run_discover(hosts: Sequence[str], way: Way, *, output: str | None = None, as_json: bool = False) -> None:
    """Ask the named machines and those that the file knows (without either: this one), and write what they said.

    An existing file keeps all that a person wrote into it. With `as_json` the cluster found is printed, and a file is
    written only if `output` names one. NodeFailed, after the others were written, for machines that did not answer.
    """
    path = Path(output or FILE)
    writes = output is not None or not as_json
    text = read_text(path) if writes and path.exists() else None
    known = parse(text, str(path)) if text is not None else None
    found = asyncio.run(_ask(nodes_to_ask(hosts, way, known), known))
    if found.cluster is not None:
        changes = _write(path, text, found.cluster) if writes else ()
        if as_json:
            print_json(found.cluster.model_dump(mode="json"))
        else:
            _show(found, path, changes, new=text is None)
    if found.failures:
        raise _failed(found)


def nodes_to_ask(hosts: Sequence[str], way: Way, known: Cluster | None) -> list[tuple[Node, bool]]:
    """The nodes of the file and those named, each once, and whether its name is settled; else this machine."""
    asked = [(node, True) for node in known.nodes] if known else []
    routes = {(node.address, node.ssh.port if node.ssh else None) for node, _ in asked}
    for host in hosts:
        node = parse_host(host, way)
        route = (node.address, node.ssh.port if node.ssh else None)
        if route not in routes and node.name not in {there.name for there, _ in asked}:
            asked.append((node, False))
            routes.add(route)
    return asked or [(Node(name="local", address="local"), False)]


def parse_host(text: str, way: Way) -> Node:
    """Read [user@]host[:port] (an IPv6 address with a port stands in brackets) as a node that is named after it."""
    user, _, place = text.rpartition("@")
    host, port = place, ""
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = rest.removeprefix(":")
    elif place.count(":") == 1:
        host, _, port = place.partition(":")
    if not host or (port and not (port.isdigit() and 0 < int(port) < 65536)):
        raise BadInput(f"{text!r} names no machine.", "Write [user@]host[:port], such as ann@10.0.0.2 or spark1:2222.")
    ssh = Ssh(
        user=user or way.user,
        port=int(port) if port else None,
        key=way.key and str(Path(way.key).expanduser().absolute()),
        known_hosts=way.known_hosts and str(Path(way.known_hosts).expanduser().absolute()),
        jump=way.jump,
    )
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in host).strip("-")[:60]
    return Node(name=name or "node", address=host, ssh=ssh if ssh != Ssh() and host != "local" else None)


async def _ask(nodes: Sequence[tuple[Node, bool]], known: Cluster | None) -> Discovered:
    async with AsyncExitStack() as stack:
        asked: list[Asked] = []
        for node, named in nodes:
            host = open_host(node.name, connection_of(node))
            stack.push_async_callback(host.close)
            asked.append(Asked(node, host, named))
        with stderr.status(f"Asking {len(asked)} machine{'s' if len(asked) > 1 else ''} ..."):
            return await discover(asked, name=known.name if known else "corral")


def _write(path: Path, text: str | None, found: Cluster) -> tuple[str, ...]:
    """Write the file whole or not at all; gives what changed in one that was there."""
    if text is None:
        written, changes = dump(found), ()
    else:
        merged = merge(text, found, str(path))
        written, changes = merged.text, merged.changes
    if written == text:
        return ()
    target = path.resolve()  # a link stays a link
    beside = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        beside.write_text(written, encoding="utf-8")
        if text is not None:
            beside.chmod(target.stat().st_mode & 0o777)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BadInput(f"{path} cannot be written: {error.strerror}.", "Name another place with -o.") from None
    return changes


def _show(found: Discovered, path: Path, changes: Sequence[str], *, new: bool) -> None:
    cluster = found.cluster
    table = Table("node", "address", "fabric", "cpu", "memory", "devices", "network", box=None, header_style="bold")
    for node in cluster.nodes if cluster else ():
        table.add_row(*(escape(cell) for cell in _row(node)))
    console.print(table)
    for link in cluster.links if cluster else ():
        console.print(f"link: {escape(' - '.join(link.between))} by {link.kind}, guessed from the NICs")
    for node_name, parts in found.not_seen.items():
        for part, why in parts.items():
            console.print(f"[yellow]not seen[/] on {escape(node_name)}: {part}: {escape(why)}", soft_wrap=True)
    if new:
        console.print(f"Written to {escape(str(path))}.")
        return
    for change in changes:
        console.print(f"changed: {escape(change)}", soft_wrap=True)
    console.print(f"{escape(str(path))} is {'up to date' if changes else 'as it was: nothing has changed'}.")


def _row(node: Node) -> tuple[str, ...]:
    devices = [f"{device.count} x {device.name}, {format_bytes(device.memory)}" for device in node.devices]
    nics = [f"{nic.name} {format_rate(nic.speed)}" if nic.speed else nic.name for nic in node.nics if nic.addresses]
    return (
        node.name,
        node.address,
        node.fabric_address,
        f"{node.cpu.cores} x {node.cpu.model}" if node.cpu else "?",
        format_bytes(node.memory) if node.memory else "?",
        "\n".join(devices) or "none",
        "\n".join(nics) or "none",
    )


def _failed(found: Discovered) -> NodeFailed:
    causes = [error.cause for error in found.failures.values()]
    remedies = dict.fromkeys(error.remedy for error in found.failures.values())
    return NodeFailed(", ".join(found.failures), "\n".join(causes), "\n".join(remedies))
