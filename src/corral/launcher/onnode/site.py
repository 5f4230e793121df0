"""Tells what a launch must know of a node, picks free ports, looks for model files; changes nothing on the node.

Sent to a node over the seam and fed a JSON request on standard input; answers with one JSON line. Verbs:

describe  {"address", "cache"} -> {"cache", "interface", "cores", "memory_total", "memory_available", "disk_free", ...}
ports     {"address", "wants": ["api", "block:64:workers"]} -> {"api": 20417, "workers": 21000}
files     {"folder", "files": [[name, bytes], ...]} -> {"present": {name: print}, "disk_free": bytes}
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import json
import os
import platform
import random
import shutil
import socket
import struct
import subprocess
import sys
from typing import Any

Json = dict[str, Any]

# Below the range that the kernel hands out for outgoing connections (32768 on Linux, 49152 on macOS), so that a port
# picked now is still free when the engine binds it seconds later.
PORTS = range(20000, 32000)
SIOCGIFADDR = 0x8915  # Linux
LOOK_SECONDS = 2.0
SYSTEM_FOLDERS = "/usr/sbin:/sbin"  # of `ip` and `ifconfig`, which a login without a profile may not look in
# What tells two files of one size apart without reading them whole: pieces all over the file, its ends included,
# because a fine-tune may leave the first and the last tensors as they were.
PIECES = 32
PIECE_BYTES = 64 * 1024


def describe(request: Json) -> Json:
    """Say what this node is, in the terms of a launch."""
    cache = os.path.expanduser(request["cache"])
    memory = memory_bytes()
    return {
        "cache": cache,
        "home": os.path.expanduser("~"),
        "uid": os.getuid(),
        "interface": interface_of(request["address"]),
        "cores": cores(),
        "memory_total": memory[0],
        "memory_available": memory[1],
        "disk_free": disk_free(cache),
        "shm_bytes": shm_bytes(),
        "python": sys.executable,
        "python_version": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "host_name": socket.gethostname(),
    }


def cores() -> int:
    """Count the CPU cores that this user's processes may run on."""
    with contextlib.suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> tuple[int, int]:
    """Give (total, available) bytes of memory; available counts page cache that can be dropped."""
    with contextlib.suppress(OSError), open("/proc/meminfo") as file:
        table = dict(line.split(":", 1) for line in file)
        return int(table["MemTotal"].split()[0]) * 1024, int(table["MemAvailable"].split()[0]) * 1024
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return total, total


def shm_bytes() -> int:
    """Size of /dev/shm in bytes; 0 where there is none."""
    with contextlib.suppress(OSError):
        shm = os.statvfs("/dev/shm")  # noqa: S108 - looked at, not written
        return shm.f_blocks * shm.f_frsize
    return 0


def disk_free(path: str) -> int:
    """Free bytes of the disk that holds the path, or will hold it."""
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def interface_of(address: str) -> str:
    """Name the network interface that carries an IPv4 or IPv6 address; empty when none does."""
    address, _, zone = address.partition("%")
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:  # a host name
        return ""
    if zone:
        return zone
    if wanted.is_loopback:
        return "lo0" if platform.system() == "Darwin" else "lo"
    listed = output_of("ip", "-json", "addr")
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # an `ip` that knows no JSON
        return interface_in_ip(listed, str(wanted))
    listed = output_of("ifconfig")
    return interface_in_ifconfig(listed, str(wanted)) if listed else interface_asked(str(wanted))


def output_of(*argv: str) -> str:
    """Give what a system program prints; empty when it is not there, fails or hangs."""
    program = shutil.which(argv[0], path=f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}")
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=LOOK_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def interface_in_ip(listed: str, address: str) -> str:
    """Find the address in what `ip -json addr` prints; ValueError when that is no JSON."""
    for interface in json.loads(listed):
        if any(same(one.get("local", ""), address) for one in interface.get("addr_info", ())):
            return interface["ifname"]
    return ""


def interface_in_ifconfig(listed: str, address: str) -> str:
    """Find the address in what `ifconfig` prints, on macOS and Linux: names at the margin, addresses below them."""
    name = ""
    for line in listed.splitlines():
        if line[:1].strip():
            name = line.split()[0].rstrip(":")
        words = line.split()
        if words[:1] in (["inet"], ["inet6"]) and len(words) > 1 and same(words[1], address):
            return name
    return ""


def interface_asked(address: str) -> str:
    """Ask Linux for each interface's first IPv4 address, where there is no program to list them all."""
    if platform.system() != "Linux":
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return ""


def same(listed: str, address: str) -> bool:
    """Whether a listed address, with or without zone and prefix length, is this one."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(listed.partition("%")[0].partition("/")[0]) == ipaddress.ip_address(address)
    return False


def ports(request: Json) -> Json:
    """Pick free ports by name, all different; a block is N ports in a row, of which the first is told."""
    address: str = request["address"]
    taken: set[int] = set()
    picked: dict[str, int] = {}
    for want in request["wants"]:
        _, count, name = want.split(":") if want.startswith("block:") else ("", "1", want)
        picked[name] = pick(address, int(count), taken)
        taken.update(range(picked[name], picked[name] + int(count)))
    return picked


def pick(address: str, count: int, taken: set[int]) -> int:
    """Find `count` ports in a row that nothing listens on."""
    for _ in range(2000):
        first = random.randrange(PORTS.start, PORTS.stop - count)  # noqa: S311 - no secret
        row = range(first, first + count)
        if not taken.intersection(row) and all(free(address, port) for port in row):
            return first
    sys.exit(f"no {count} free ports in a row between {PORTS.start} and {PORTS.stop}")


def free(address: str, port: int) -> bool:
    """Whether the port can be bound on the address and on every other one of this node."""
    for bind in (address, "0.0.0.0"):  # noqa: S104 - bound for a moment, never listened on
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((bind, port))
            except OSError:
                return False
    return True


def files(request: Json) -> Json:
    """Say which files stand in the folder whole, by name and size, and give the print of each."""
    folder = os.path.expanduser(request["folder"])
    wanted: list[tuple[str, int]] = request["files"]
    prints = {name: print_of(os.path.join(folder, name), size) for name, size in wanted}
    present = {name: digest for name, digest in prints.items() if digest is not None}
    return {"folder": folder, "present": present, "disk_free": disk_free(folder)}


def print_of(path: str, size: int) -> str | None:
    """Digest of the size and of pieces all over the file (a small file: all of it); None when it has not this size."""
    digest = hashlib.sha256(str(size).encode())
    whole = size <= PIECES * PIECE_BYTES
    starts = range(0, size, PIECE_BYTES) if whole else spread(size - PIECE_BYTES)
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != size:
                return None
            for start in starts:
                file.seek(start)
                digest.update(file.read(PIECE_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def spread(last: int) -> list[int]:
    """Give PIECES numbers from 0 to `last`, both included, evenly apart."""
    return [number * last // (PIECES - 1) for number in range(PIECES)]


if __name__ == "__main__":
    answer = {"describe": describe, "ports": ports, "files": files}[sys.argv[1]](
        json.loads(sys.stdin.buffer.readline())
    )
    sys.stdout.write(json.dumps(answer) + "\n")
