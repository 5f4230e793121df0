"""Listening sockets, and who holds a port that is taken; knows no HTTP."""

import errno
import ipaddress
import resource
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from corral.errors import BadInput

_OTHER_FILES: Final = 256  # databases, logs, pipes of engines
_TCP_LISTEN: Final = "0A"  # Linux: include/net/tcp_states.h
# Accepted connections inherit these. A silent client is asked every 10 s after 30 s of silence, and one that does not
# answer (its machine vanished) or does not read (its window stays shut) for 2 minutes is cut off: its request would
# hold a place in the engine for ever. On macOS the first is called TCP_KEEPALIVE and the last does not exist.
_CLIENT_TIMES: Final = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 120_000,  # ms
}


def listen(host: str, port: int, *, loopback_only: bool) -> list[socket.socket]:
    """Bind every address of `host` (port 0: one free port for all of them) and listen; BadInput says why it cannot."""
    if not 0 <= port <= 65535:
        raise BadInput(f"{port} is no port.", "Give --port a number from 1 to 65535.")
    sockets: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if loopback_only:
                _require_loopback(host, address)
            sockets.append(_bound(family, address, port))
            port = sockets[0].getsockname()[1]
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def is_reached(host: str) -> bool:
    """Whether other machines can reach an address of `host`; BadInput when it is none of this machine."""
    return any(not ipaddress.ip_address(address).is_loopback for _, address in _addresses(host, 0))


def connections_for(wanted: int) -> int:
    """How many clients' connections this process may have open: as many as wanted, if the system allows it.

    Raises the soft limit of open files as far as needed and allowed: it is 1024 on most systems. A request takes a file
    for its client and one for its engine; some are needed for all else. Without a file left nobody could be answered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = 2 * wanted + _OTHER_FILES
    if soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # macOS has a limit of its own below the one that it tells
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return max(1, min(wanted, (soft - _OTHER_FILES) // 2))


def holder(port: int) -> str | None:
    """Who listens on a TCP port of this machine, as "name (pid N)"; None when that cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*") if wanted else ():
        with suppress(OSError):  # ended meanwhile, or somebody else's
            if any(_link(entry) in wanted for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return None


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


def _require_loopback(host: str, address: str) -> None:
    if not ipaddress.ip_address(address).is_loopback:
        raise BadInput(
            f"{host} can be reached from other machines, and the gateway has no keys yet.",
            "Make one with `corral keys create NAME`, listen on 127.0.0.1, or let everyone in with --allow-unkeyed.",
        )


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BadInput(f"{host!r} is no address of this machine ({error.strerror}).", "Give --host another.") from None
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _bound(family: int, address: str, port: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _CLIENT_TIMES.items():
            if hasattr(socket, option):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        # Listening is what claims the port for certain: two sockets can be bound to one port as long as neither does.
        opened.listen(2048)
        opened.setblocking(False)  # noqa: FBT003 - the standard library's signature
    except OSError as error:
        opened.close()
        raise _refused(error, address, port) from None
    return opened


def _refused(error: OSError, address: str, port: int) -> BadInput:
    match error.errno:
        case errno.EADDRINUSE:
            by = holder(port)
            cause = f"Port {port} on {address} is in use by {by}." if by else f"Port {port} on {address} is in use."
            return BadInput(cause, "Give another with --port, or stop what holds it.")
        case errno.EACCES:
            return BadInput(f"Port {port} is reserved for root.", "Give one above 1023 with --port.")
        case errno.EADDRNOTAVAIL:
            return BadInput(f"{address} is no address of this machine.", "Give --host one that `ip address` shows.")
        case _:
            return BadInput(f"Port {port} on {address} cannot be opened ({error.strerror}).", "Give another --port.")


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _TCP_LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(fields[9])
    return inodes
