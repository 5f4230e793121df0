"""A lab: its number, its machines and their networks, made and taken away again."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lab import net, sshd
from lab.host import ROOT_HOME, LabHost
from lab.needs import missing, program

FOLDER = Path("/var/tmp/corral-lab")  # root's own; homes can be too large for /run
REPOSITORY = Path(__file__).resolve().parents[2]
LABS = 200  # numbers that a lab can have: the third part of its addresses
FIRST = 11  # the last part of the first machine's address
HEAD = 1  # the last part of this machine's address on the management network
FABRIC_MTU = 1500


class Lab:
    """Some machines on a management network (with this one, the head) and a fabric (without it).

    `hosts` is their number or their names; `share` names files and folders of this machine that they see at the same
    path (beside the Python that runs the lab and the repository); `cache` is the folder whose `envs` and `models` they
    have in common as `~/.cache/corral`, as machines with an NFS home would. Several labs can stand side by side; a
    number whose owner died is taken over and cleared.
    """

    def __init__(
        self,
        hosts: int | Sequence[str] = 2,
        *,
        share: Sequence[Path | str] = (),
        cache: Path | None = None,
        fabric_mtu: int = FABRIC_MTU,
    ) -> None:
        self.names = [f"h{i + 1}" for i in range(hosts)] if isinstance(hosts, int) else list(hosts)
        self.share = [Path(path).resolve() for path in share]
        self.cache = cache or Path.home() / ".cache" / "corral"
        self.fabric_mtu = fabric_mtu
        self.hosts: list[LabHost] = []
        self.number = -1
        self._lock = -1

    # --- from outside

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def __getitem__(self, name: str) -> LabHost:
        return next(host for host in self.hosts if host.name == name)

    @property
    def folder(self) -> Path:
        """Where this lab's files are."""
        return FOLDER / str(self.number)

    @property
    def key(self) -> Path:
        """The private key that opens every machine as root."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        """The machines' host keys."""
        return self.folder / "known_hosts"

    @property
    def head(self) -> str:
        """This machine's address on the management network."""
        return f"10.77.{self.number}.{HEAD}"

    def cluster_yaml(self) -> str:
        """Write the cluster file of these machines."""
        lines = [f"# Lab {self.number}: machines made of namespaces", "nodes:"]
        for host in self.hosts:
            ssh = {"user": "root", "port": host.port, "key": str(self.key), "known_hosts": str(self.known_hosts)}
            lines += [f"  - name: {host.name}", f"    address: {host.address}", f"    fabric: {host.fabric}"]
            lines += ["    ssh: {" + ", ".join(f"{word}: {value}" for word, value in ssh.items()) + "}"]
        return "\n".join(lines) + "\n"

    # --- making it

    def up(self) -> None:
        """Make the machines and wait until each answers; RuntimeError when this machine cannot have a lab."""
        if reason := missing():
            raise RuntimeError(reason)
        self._take_number()
        try:
            self._build()
        except BaseException:
            self.down()
            raise

    def _build(self) -> None:
        switch = f"{prefix(self.number)}switch"
        net.add_switch(switch)
        head = {"into": str(os.getpid()), "nic": head_nic(self.number), "address": self.head, "mtu": 1500}
        net.plug(switch, "head", "management", **head)
        authorized = self.folder / "authorized_keys"
        authorized.write_text(sshd.make_key(self.key, "corral-lab") + "\n", encoding="utf-8")
        keys: dict[tuple[str, ...], str] = {}
        for index, name in enumerate(self.names):
            last = FIRST + index
            host = LabHost(name, f"10.77.{self.number}.{last}", f"10.78.{self.number}.{last}",
                           f"{prefix(self.number)}{name}", switch, self.folder / name)  # fmt: skip
            self.hosts.append(host)
            host.folder.mkdir()
            keys[(name, host.address, host.fabric)] = sshd.make_key(host.folder / "host_key", name)
            self._plug(host)
        self.known_hosts.write_text(sshd.known_hosts(keys), encoding="utf-8")
        for host in self.hosts:
            self._write_init(host, authorized)
            host.power_on()

    def _plug(self, host: LabHost) -> None:
        net.add_namespace(host.namespace)
        net.plug(host.switch, host.name, "management", into=host.namespace, nic=net.NIC["management"],
                 address=host.address, mtu=1500)  # fmt: skip
        net.plug(host.switch, host.name, "fabric", into=host.namespace, nic=net.NIC["fabric"],
                 address=host.fabric, mtu=self.fabric_mtu)  # fmt: skip

    def _write_init(self, host: LabHost, authorized: Path) -> None:
        home, etc = host.folder / "home", host.folder / "etc"
        for folder in (home, etc, host.folder / "aside"):
            folder.mkdir(mode=0o700)
        table = "".join(f"{other.address} {other.name}\n" for other in self.hosts)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{table}", encoding="utf-8")
        (etc / "hostname").write_text(f"{host.name}\n", encoding="utf-8")
        config = {
            "name": host.name,
            "home": str(home),
            "root_home": ROOT_HOME,
            "aside": str(host.folder / "aside"),
            "shared": self._shared(),
            "etc": {path.name: str(path) for path in etc.iterdir()},
            "sshd": program("sshd"),
            "sshd_config": str(sshd.write_server(host.folder, authorized)),
            "sshd_log": str(host.folder / "sshd.log"),
            "booted": str(host.folder / "booted"),
        }
        (host.folder / "init.json").write_text(json.dumps(config, indent=1), encoding="utf-8")

    def _shared(self) -> list[dict[str, str]]:
        """List what the machines see of this one where their own mounts would hide it."""
        same = {Path(sys.base_prefix), Path(sys.prefix), REPOSITORY, Path("/sys/fs/cgroup"), *self.share}
        shared = [(path, path) for path in sorted(same) if path.exists()]
        for part in ("envs", "models"):
            (self.cache / part).mkdir(parents=True, exist_ok=True)
            shared.append((self.cache / part, Path(ROOT_HOME) / ".cache" / "corral" / part))
        return [{"source": str(source), "target": str(target)} for source, target in shared]

    # --- its number

    def _take_number(self) -> None:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        for number in range(1, LABS):
            lock = try_lock(number)
            if lock is None:
                continue
            if (FOLDER / str(number) / "kept").exists():  # made by hand, to outlive its maker
                os.close(lock)
                continue
            self.number, self._lock = number, lock
            clear(number)
            self.folder.mkdir(mode=0o700)
            return
        msg = f"{LABS} labs stand already"
        raise RuntimeError(msg)

    def keep(self) -> None:
        """Let the lab outlive this process; `clear` takes it away."""
        (self.folder / "kept").touch()
        os.close(self._lock)
        self._lock = -1

    def down(self) -> None:
        """Take everything away; harmless when it is gone already."""
        if self._lock < 0:
            return
        clear(self.number)
        for host in self.hosts:
            host.reap()
        os.close(self._lock)
        self._lock = -1
        self.hosts = []


def prefix(number: int) -> str:
    """Begin the names of a lab's network namespaces."""
    return f"corral{number}-"


def head_nic(number: int) -> str:
    """Name this machine's NIC in a lab."""
    return f"corral{number}"


def try_lock(number: int) -> int | None:
    """Take a lab's number; None when a living process has it. The lock ends with the process."""
    handle = os.open(FOLDER / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def clear(number: int) -> None:
    """Remove all that a lab has or left behind: its processes, networks and files."""
    left = net.namespaces(prefix(number))
    for name in left:
        for pid in net.processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
    net.unplug(head_nic(number))  # at once: what goes with its namespace goes a moment later
    for name in left:
        net.command("ip", "netns", "del", name)
    shutil.rmtree(FOLDER / str(number), ignore_errors=True)
