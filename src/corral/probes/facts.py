"""Say in JSON what this machine is: processors, memory, accelerators, NICs, disks, Python; knows nothing of Corral.

One file for whatever python3 (3.8 or later) a node has, without root. Every part looks in a thread of its own and has
`--limit` seconds (default 2.5); what cannot be seen is {"not_seen": why, "command": what would show it}. Sizes are
bytes, speeds are bits a second as network cards say them, powers are watts.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, List  # noqa: UP035 - Python 3.8 knows no list[...] outside annotations

Facts = Dict[str, Any]  # noqa: UP006 - as above
Rows = List[Facts]  # noqa: UP006 - as above

SCHEMA = "corral.facts/1"
LIMIT_SECONDS = 2.5
LONGEST_OUTPUT = 4 * 1024 * 1024  # bytes of one tool; the longest honest one is some hundred kB
NVIDIA_FIELDS = ("name", "uuid", "pci.bus_id", "memory.total", "driver_version", "power.limit", "compute_cap")
# gfx targets of processors whose graphics share the main memory (LLVM's AMDGPU table, "APU" rows): Raven to Strix Halo.
AMD_UNIFIED = {
    "gfx902", "gfx909", "gfx90c", "gfx1013", "gfx1033", "gfx1035", "gfx1036", "gfx1037", "gfx1103", "gfx1150",
    "gfx1151", "gfx1152", "gfx1153",
}  # fmt: skip
# A command over SSH gets a short PATH; these are where the tools are.
SEARCHED = (
    os.environ.get("PATH", "")
    + ":/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/rocm/bin:/opt/homebrew/bin"
)
DARWIN = platform.system() == "Darwin"


class NotSeen(Exception):
    """Something could not be looked at; `command` would show it to a person."""

    def __init__(self, why: str, command: str = "") -> None:
        super().__init__(why)
        self.command = command


# -- looking ----------------------------------------------------------------------------------------------------------


def tool(argv: list[str], limit: float) -> str:
    """Run a tool and return what it printed; NotSeen if it is missing, fails, is slow or prints without end."""
    command = " ".join(argv)
    program = shutil.which(argv[0], path=SEARCHED)
    if program is None:
        raise NotSeen(f"{argv[0]} is not installed", command)
    env = dict(os.environ, LC_ALL="C", LANG="C", LANGUAGE="C", PATH=SEARCHED)
    expired = threading.Event()
    with subprocess.Popen(
        [program, *argv[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        start_new_session=True,
    ) as process:
        timer = threading.Timer(limit, lambda: (expired.set(), kill(process)))
        timer.daemon = True
        timer.start()
        try:
            output = process.stdout.read(LONGEST_OUTPUT + 1) if process.stdout else b""
            if len(output) > LONGEST_OUTPUT:
                raise NotSeen(f"{argv[0]} printed without end", command)
            status = process.wait()
        finally:
            timer.cancel()
            kill(process)
    if expired.is_set():
        raise NotSeen(f"{argv[0]} took longer than {limit:.1f} s", command)
    text = output.decode("utf-8", "replace")
    if status != 0:
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        raise NotSeen(f"{argv[0]} failed with status {status}: {last[:200]}", command)
    return text


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a tool that still runs, and what it started: its session is its own."""
    if process.returncode is None:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)


def read(path: str | Path) -> str:
    """A small file's text without white space around it; empty if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def number(text: object) -> int | None:
    """The whole number at the start of a text ("81559 MiB" -> 81559), or None."""
    found = re.match(r"\s*(-?\d+)", str(text or ""))
    return int(found.group(1)) if found else None


def matched(pattern: str, text: str) -> str | None:
    """The first group of the first match of a pattern, lines by lines, or None."""
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else None


def folders(path: str | Path) -> list[Path]:
    """The entries of a folder, sorted; none if it is not there."""
    try:
        return sorted(Path(path).iterdir())
    except OSError:
        return []


# -- the machine itself -----------------------------------------------------------------------------------------------


def look_at_system(_limit: float) -> Facts:
    """What it is called and what it runs."""
    name = platform.uname()
    return {
        "os": name.system,
        "distribution": matched(r'^PRETTY_NAME="?([^"\n]+)', read("/etc/os-release")) or platform.mac_ver()[0] or None,
        "kernel": name.release,
        "hostname": name.node,
        "architecture": name.machine,
        "boot_id": read("/proc/sys/kernel/random/boot_id") or None,
    }


def parse_lscpu(text: str) -> str | None:
    """The distinct model names that lscpu prints (big and little cores), joined."""
    return " + ".join(dict.fromkeys(re.findall(r"^\s*Model name:\s*(\S.*?)\s*$", text, re.MULTILINE))) or None


def parse_cpu_quota(text: str) -> float | None:
    """CPUs that a cgroup allows: "200000 100000" -> 2.0; None when it sets no limit."""
    found = re.match(r"(\d+) ([1-9]\d*)$", text)
    return int(found.group(1)) / int(found.group(2)) if found else None


def cgroup_limit(name: str) -> str:
    """A limit of this process's cgroup (version 2); empty where there is none."""
    return read(f"/sys/fs/cgroup{(matched(r'^0::(.*)$', read('/proc/self/cgroup')) or '').rstrip('/')}/{name}")


def look_at_cpu(limit: float) -> Facts:
    """The processor and how many of its threads this user may use."""
    if DARWIN:
        known = parse_sysctl(tool(["sysctl", "machdep.cpu.brand_string", "hw.ncpu", "hw.physicalcpu"], limit))
        return {"model": known.get("machdep.cpu.brand_string"), "cores": known.get("hw.physicalcpu", os.cpu_count())}
    model = matched(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo"))
    if model is None:  # ARM kernels give part numbers only
        with suppress(NotSeen):
            model = parse_lscpu(tool(["lscpu"], limit))
    usable = len(os.sched_getaffinity(0))
    quota = parse_cpu_quota(cgroup_limit("cpu.max"))
    return {"model": model, "cores": max(1, min(usable, int(quota))) if quota else usable, "threads": os.cpu_count()}


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo's kB as bytes, by name."""
    return {name: int(count) * 1024 for name, count in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}


def look_at_memory(limit: float) -> Facts:
    """The memory that this user may use: the machine's or its cgroup's."""
    if DARWIN:
        return {"total": parse_sysctl(tool(["sysctl", "hw.memsize"], limit)).get("hw.memsize"), "available": None}
    found = parse_meminfo(read("/proc/meminfo"))
    if "MemTotal" not in found:
        raise NotSeen("/proc/meminfo does not say", "cat /proc/meminfo")
    allowed = number(cgroup_limit("memory.max")) or found["MemTotal"]
    available = found.get("MemAvailable", found.get("MemFree", 0))
    return {"total": min(found["MemTotal"], allowed), "available": min(available, allowed)}


# -- accelerators -----------------------------------------------------------------------------------------------------


def present(cell: str) -> str | None:
    """None for what nvidia-smi prints in place of a value: "[N/A]", "[Not Supported]", "N/A"."""
    return None if not cell or cell.startswith("[") or cell == "N/A" else cell


def parse_nvidia(text: str) -> Rows:
    """GPUs from nvidia-smi's CSV. `memory` is None where it says [N/A]: the memory is the machine's own (GB10)."""
    gpus: Rows = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != len(NVIDIA_FIELDS) or not re.match(r"(GPU|MIG)-", row[1]):
            continue  # a warning among the rows
        name, uuid, bus, memory, driver, power, capability = (present(cell.strip()) for cell in row)
        size = number(memory)
        watts = float(power) if power and re.match(r"\d+(\.\d+)?$", power) else None
        gpus.append({
            "name": name, "uuid": uuid, "bus": bus, "memory": size * 1024 * 1024 if size else None,
            "unified": not size, "driver": driver, "power_limit": watts, "capability": capability,
        })  # fmt: skip
    return gpus


def nvidia_cards(root: str = "/sys") -> int:
    """How many NVIDIA display or 3D controllers are on the PCI bus."""
    devices = folders(root + "/bus/pci/devices")
    return sum(read(path / "vendor") == "0x10de" and read(path / "class").startswith("0x03") for path in devices)


def look_at_nvidia(limit: float) -> Rows:
    """NVIDIA GPUs, by nvidia-smi; a card without a working driver is not seen rather than not there."""
    command = ["nvidia-smi", "--query-gpu=" + ",".join(NVIDIA_FIELDS), "--format=csv,noheader,nounits"]
    cards = nvidia_cards()
    if not cards and not shutil.which("nvidia-smi", path=SEARCHED):
        return []
    gpus = parse_nvidia(tool(command, limit))
    if cards and not gpus:
        raise NotSeen("nvidia-smi printed no GPU although the PCI bus has one", "nvidia-smi")
    return gpus


def parse_kfd(text: str) -> Facts:
    """A KFD node's properties, numbers by name; plus `gfx`: 110501 -> "gfx1151", 90010 -> "gfx90a"."""
    found: Facts = {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}
    version = found.get("gfx_target_version", 0)
    if version:
        found["gfx"] = f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return found


def parse_amdgpu_ids(text: str, device: str, revision: str) -> str | None:
    """A GPU's name in libdrm's amdgpu.ids ("1586, C1, AMD Radeon 8060S Graphics"), or None."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",", 2)]
        if len(cells) == 3 and [cell.lower() for cell in cells[:2]] == [device, revision]:
            return cells[2]
    return None


def amd_gpus(root: str = "/sys", ids: str = "/usr/share/libdrm/amdgpu.ids") -> Rows:
    """AMD GPUs that the kernel knows, from sysfs below `root`; unified memory is the carved-out and the mapped part."""
    kfd: dict[int, Facts] = {}
    for node in folders(root + "/class/kfd/kfd/topology/nodes"):
        found = parse_kfd(read(node / "properties"))
        kfd[found.get("drm_render_minor", -1)] = found
    gpus: Rows = []
    for card in folders(root + "/class/drm"):
        device = card / "device"
        if not re.match(r"renderD\d+$", card.name) or read(device / "vendor") != "0x1002":
            continue
        code, revision = read(device / "device")[2:].lower(), read(device / "revision")[2:].lower()
        gfx = kfd.get(int(card.name[7:]), {}).get("gfx")
        vram, gtt = number(read(device / "mem_info_vram_total")), number(read(device / "mem_info_gtt_total"))
        caps = [number(read(path / "power1_cap")) for path in folders(device / "hwmon")]  # microwatts
        named = read(device / "product_name") or parse_amdgpu_ids(read(ids), code, revision)
        gpus.append({
            "name": named or f"AMD GPU {code}", "uuid": read(device / "unique_id") or None,
            "bus": device.resolve().name, "capability": gfx, "unified": gfx in AMD_UNIFIED, "vram": vram, "gtt": gtt,
            "memory": (vram or 0) + (gtt or 0) if gfx in AMD_UNIFIED else vram,
            "driver": read(root + "/module/amdgpu/version") or None,
            "power_limit": caps[0] / 1e6 if caps and caps[0] else None,
        })  # fmt: skip
    return gpus


def parse_sysctl(text: str) -> Facts:
    """`name: value` lines of sysctl; whole numbers as such."""
    found = re.findall(r"^([\w.]+): ?(.*)$", text, re.MULTILINE)
    return {name: int(value) if value.isdigit() else value for name, value in found}


def parse_apple(sysctl: str, displays: str) -> Rows:
    """An Apple GPU from sysctl and `system_profiler SPDisplaysDataType -json`; its memory is the machine's own."""
    known = parse_sysctl(sysctl)
    try:
        shown = json.loads(displays)["SPDisplaysDataType"]
    except (ValueError, KeyError, TypeError):
        raise NotSeen("system_profiler printed no JSON", "system_profiler SPDisplaysDataType -json") from None
    wired = known.get("iogpu.wired_limit_mb")
    apple = [item for item in shown if "apple" in str(item.get("spdisplays_vendor", item.get("sppci_vendor"))).lower()]
    return [{
        "name": known.get("machdep.cpu.brand_string") or item.get("sppci_model"), "unified": True,
        "cores": number(item.get("sppci_cores")), "memory": known.get("hw.memsize"),
        "gpu_limit": wired * 1024 * 1024 if wired else None,
    } for item in apple[:1]]  # fmt: skip


def look_at_apple(limit: float) -> Rows:
    """The GPU of an Apple processor."""
    if not DARWIN or platform.machine() != "arm64":
        return []
    known = tool(["sysctl", "hw.memsize", "machdep.cpu.brand_string"], limit)
    with suppress(NotSeen):  # older systems have no such limit
        known += tool(["sysctl", "iogpu.wired_limit_mb"], limit)
    return parse_apple(known, tool(["system_profiler", "SPDisplaysDataType", "-json"], limit))


# -- network ----------------------------------------------------------------------------------------------------------


def parse_ip(text: str) -> dict[str, list[str]]:
    """Addresses with prefix length by interface, from `ip -json addr`; link-local ones left out."""
    try:
        return {
            item["ifname"]: [
                f"{address['local']}/{address['prefixlen']}"
                for address in item.get("addr_info", [])
                if "local" in address and address.get("scope") != "link"
            ]
            for item in json.loads(text)
            if item.get("ifname")  # empty objects stand where a filter left something out
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotSeen("ip printed no list of interfaces", "ip -json addr") from None


def prefix_length(mask: int) -> int:
    """How many bits of a net mask are set."""
    return bin(mask).count("1")  # noqa: FURB161 - Python 3.8 has no int.bit_count


def ask_kernel_for_address(name: str) -> list[str]:
    """An interface's IPv4 address with prefix length, for a machine without a modern `ip`."""
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked, suppress(OSError):
        address = fcntl.ioctl(asked, 0x8915, request)[20:24]  # SIOCGIFADDR of linux/sockios.h
        mask = fcntl.ioctl(asked, 0x891B, request)[20:24]  # SIOCGIFNETMASK
        return [f"{socket.inet_ntoa(address)}/{prefix_length(int.from_bytes(mask, 'big'))}"]
    return []


def linux_nics(addresses: Callable[[str], list[str]], root: str = "/sys") -> Rows:
    """Interfaces below `root`, but loopback, with the addresses given by name."""
    nics: Rows = []
    for folder in folders(root + "/class/net"):
        if folder.name == "lo" or not (folder / "address").exists():
            continue
        speed, driver = number(read(folder / "speed")), folder / "device" / "driver"  # Mb/s; -1: unknown
        nics.append({
            "name": folder.name, "addresses": addresses(folder.name), "mtu": number(read(folder / "mtu")),
            "mac": read(folder / "address") or None, "state": read(folder / "operstate"),
            "speed": speed * 10**6 if speed and speed > 0 else None,
            "driver": driver.resolve().name if driver.exists() else None, "virtual": not (folder / "device").exists(),
        })  # fmt: skip
    return nics


def parse_ifconfig(text: str) -> Rows:
    """A Mac's interfaces from ifconfig, but loopback; those with a hardware address or an address."""
    nics: Rows = []
    for name, body in re.findall(r"^(\w+): flags=(.*(?:\n[\t ].*)*)", text, re.MULTILINE):
        found = re.findall(r"^\s+inet (\S+) netmask 0x([0-9a-f]{8})", body, re.MULTILINE)
        mac = matched(r"\bether (\S+)", body)
        media = re.search(r"media: .*?\((\d+)(G?)base", body, re.IGNORECASE)
        if name.startswith("lo") or not (mac or found):
            continue
        nics.append({
            "name": name, "mtu": number(matched(r"\bmtu (\d+)", body)), "mac": mac,
            "addresses": [f"{address}/{prefix_length(int(mask, 16))}" for address, mask in found],
            "state": "up" if matched(r"^\s+status: (\w+)", body) == "active" else "down",
            "speed": int(media.group(1)) * (10**9 if media.group(2) else 10**6) if media else None,
            "driver": None, "virtual": not mac,
        })  # fmt: skip
    return nics


def look_at_nics(limit: float) -> Rows:
    """Network interfaces with their addresses."""
    if DARWIN:
        return parse_ifconfig(tool(["ifconfig"], limit))
    try:
        known = parse_ip(tool(["ip", "-json", "addr"], limit))
    except NotSeen:
        return linux_nics(ask_kernel_for_address)
    return linux_nics(lambda name: known.get(name, []))


def rdma_ports(root: str = "/sys") -> Rows:
    """RDMA ports below `root`: state, rate in bits a second, link layer and the interface each sits on."""
    ports: Rows = []
    for device in folders(root + "/class/infiniband"):
        for port in folders(device / "ports"):
            rate = matched(r"([\d.]+) Gb/sec", read(port / "rate"))
            beside = [entry.name for entry in folders(device / "device" / "net")]
            ports.append({
                "name": device.name, "port": int(port.name), "state": read(port / "state").split(": ")[-1].lower(),
                "rate": int(float(rate) * 10**9) if rate else None, "link_layer": read(port / "link_layer") or None,
                "nic": read(port / "gid_attrs" / "ndevs" / "0") or (beside[0] if beside else None),
            })  # fmt: skip
    return ports


# -- what it can run --------------------------------------------------------------------------------------------------


def look_at_disks(_limit: float) -> Rows:
    """What is free where Corral would put things. A folder that is not there yet is its nearest parent."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    disks: Rows = []
    for use, path in (("home", Path.home()), ("cache", cache), ("shm", Path("/dev/shm"))):  # noqa: S108 - looked at
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        found = os.statvfs(str(there))
        size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        if use != "shm" or there == path:
            disks.append({"use": use, "path": str(there), "size": size, "free": free, "device": there.stat().st_dev})
    return disks


def look_at_python(limit: float) -> Facts:
    """The Python that runs this, and whether it can make environments."""
    able: Facts = {"path": sys.executable, "version": platform.python_version()}
    for module in ("venv", "ensurepip", "pip"):
        with suppress(NotSeen):
            able[module] = tool([sys.executable, "-c", f"import {module}; print(1)"], limit).strip() == "1"
    return able


def look_at_limits(_limit: float) -> Facts:
    """What a process of this user may lock and open; None is without limit."""
    kinds = {"memlock": resource.RLIMIT_MEMLOCK, "nofile": resource.RLIMIT_NOFILE}
    limits = {name: resource.getrlimit(kind)[0] for name, kind in kinds.items()}
    return {name: None if value in {-1, resource.RLIM_INFINITY} else value for name, value in limits.items()}


PARTS: dict[str, Callable[[float], Facts | Rows]] = {
    "system": look_at_system,
    "cpu": look_at_cpu,
    "memory": look_at_memory,
    "nvidia": look_at_nvidia,
    "amd": lambda _limit: amd_gpus(),
    "apple": look_at_apple,
    "nics": look_at_nics,
    "rdma": lambda _limit: rdma_ports(),
    "disks": look_at_disks,
    "python": look_at_python,
    "containers": lambda _limit: {name: shutil.which(name, path=SEARCHED) for name in ("podman", "docker")},
    "limits": look_at_limits,
    "clock": lambda _limit: {"unix": time.time(), "zone": time.strftime("%z")},
}


def look(parts: dict[str, Callable[[float], Facts | Rows]], limit: float) -> Facts:
    """What each part says, by name. A part that hangs (a dead NFS server, a wedged driver) is left behind."""
    said: Facts = {}

    def one(name: str) -> None:
        try:
            said[name] = parts[name](limit)
        except NotSeen as error:
            said[name] = {"not_seen": str(error), "command": error.command}
        except Exception as error:  # noqa: BLE001 - one part's surprise must not silence the others
            said[name] = {"not_seen": f"{type(error).__name__}: {error}", "command": ""}

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in parts]
    deadline = time.monotonic() + limit + 0.3
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = {"not_seen": f"it took longer than {limit:.1f} s", "command": ""}
    return {"schema": SCHEMA, **{name: said.get(name, late) for name in parts}}


def main() -> None:
    """Print the facts as one line of JSON and leave, whatever still hangs."""
    limit = float(sys.argv[sys.argv.index("--limit") + 1]) if "--limit" in sys.argv else LIMIT_SECONDS
    sys.stdout.write(json.dumps(look(PARTS, limit)) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
