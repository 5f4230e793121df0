"""One machine of the lab: power, what runs on it, its links; knows no other machine."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab import net
from lab.needs import program
from lab.net import NIC, Counters, Network
from lab.sshd import node_path

ROOT_HOME = pwd.getpwuid(0).pw_dir
BOOT_SECONDS = 20.0
TEMPORARY = ("/tmp", "/run", "/dev/shm")
NAMESPACES = ("--mount", "--pid", "--uts", "--ipc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as its machine numbers it."""

    pid: int
    argv: tuple[str, ...]
    outer_pid: int = field(compare=False)  # as this machine numbers it


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a machine holds at a moment: processes, listening TCP ports, temporary files."""

    processes: frozenset[Process]
    ports: frozenset[int]
    files: frozenset[str]

    def __sub__(self, earlier: "Snapshot") -> "Snapshot":
        """Return what is there now and was not then."""
        return Snapshot(self.processes - earlier.processes, self.ports - earlier.ports, self.files - earlier.files)

    def __bool__(self) -> bool:
        return bool(self.processes or self.ports or self.files)


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for a condition; TimeoutError says for what."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            msg = f"waited {seconds:.0f} s for {what}"
            raise TimeoutError(msg)
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> None:
    """End a process group that was started with a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(slots=True)
class LabHost:
    """A machine: namespaces held by its first process, reached by SSH at `address` or from here by `run`."""

    name: str
    address: str  # on the management network
    fabric: str  # address on the fabric
    namespace: str  # of the network, as `ip netns` lists it
    switch: str  # the namespace that its cables lead to
    folder: Path  # its files: home, keys, logs
    port: int = 22
    _holder: subprocess.Popen[bytes] | None = field(default=None, repr=False)  # lives as long as the machine

    @property
    def config(self) -> dict:
        """What its first process was told."""
        return json.loads((self.folder / "init.json").read_text(encoding="utf-8"))

    # --- power

    def power_on(self) -> None:
        """Boot it and wait until its SSH server answers."""
        booted = self.folder / "booted"
        booted.unlink(missing_ok=True)
        with (self.folder / "console.log").open("ab") as console:
            self._holder = holder = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", *NAMESPACES, "--fork", "--kill-child",
                 sys.executable, "-I", str(Path(__file__).with_name("init.py")), str(self.folder / "init.json")],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                env={"PATH": node_path(), "HOME": ROOT_HOME, "LANG": "C.UTF-8"},
            )  # fmt: skip
        for network in NIC:
            self.link_up(network)
        wait_until(lambda: booted.exists() or holder.poll() is not None, f"{self.name} to boot", BOOT_SECONDS)
        if holder.poll() is not None:
            log = (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")
            msg = f"{self.name} did not boot:\n{log}"
            raise RuntimeError(msg)
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text(encoding="utf-8").split()
        (self.folder / "pid").write_text(children[0], encoding="utf-8")
        wait_until(self._answers, f"the SSH server of {self.name}", BOOT_SECONDS)

    def power_off(self) -> None:
        """Cut the power: the links go first, so that no dying process can still say goodbye."""
        for network in NIC:
            self.link_down(network)
        for pid in net.processes(self.namespace):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.reap()
        wait_until(lambda: not net.processes(self.namespace), f"the processes of {self.name} to end", 10)

    def reap(self) -> None:
        """Wait for the end of what held the namespaces, after the machine's processes were killed."""
        if self._holder is not None:
            self._holder.wait()

    @property
    def pid(self) -> int:
        """The machine's first process, as this machine numbers it."""
        return int((self.folder / "pid").read_text(encoding="utf-8"))

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.address, self.port), timeout=1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    # --- what runs on it

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Build the command that runs `argv` on the machine without SSH, in root's home there."""
        environment = [
            f"HOME={ROOT_HOME}",
            f"PATH={node_path()}",
            "LANG=C.UTF-8",
            f"TERM={os.environ.get('TERM', 'dumb')}",
        ]
        return [program("nsenter"), f"--target={self.pid}", "--net", *NAMESPACES, "env", "-i", *environment,
                "sh", "-c", 'cd && exec "$@"', "sh", *argv]  # fmt: skip

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str = "",  # noqa: A002 - the word that subprocess.run uses
        timeout: float = 60.0,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the machine, beside SSH; CalledProcessError when it fails, unless `check` is false."""
        process = subprocess.Popen(self.enter(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except BaseException:
            end(process)
            raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, done.args, stdout, stderr)
        return done

    def processes(self) -> list[Process]:
        """List what runs there, but for its first process and the SSH server with its sessions."""
        found = []
        for outer in net.processes(self.namespace):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                status = Path(f"/proc/{outer}/status").read_text(encoding="utf-8")
                argv = tuple(Path(f"/proc/{outer}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
                inner = int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
                own = inner == 1 or not argv or argv[0].startswith("sshd:") or Path(argv[0].split()[0]).name == "sshd"
                if not own and not argv[0].startswith("unshare"):
                    found.append(Process(inner, argv, outer))
        return found

    def ports(self) -> set[int]:
        """List the TCP ports that something listens on, the SSH server's aside."""
        listed = net.command("ss", "-Htln", namespace=self.namespace)
        return {int(line.split()[3].rpartition(":")[2]) for line in listed.splitlines()} - {self.port}

    def files(self) -> set[str]:
        """List the files in its temporary folders and its home; what it shares with this machine aside."""
        shared = {entry["target"] for entry in self.config["shared"]}
        prune = [part for path in sorted(shared) for part in ("-path", path, "-prune", "-o")]
        own = {"/run/sshd", "/run/sshd.pid"}
        listed = self.run(["find", *TEMPORARY, ROOT_HOME, "-mindepth", "1", *prune, "-not", "-type", "d", "-print"])
        return set(listed.stdout.splitlines()) - own

    def snapshot(self) -> Snapshot:
        """Record what is there, to be subtracted from what is there later."""
        return Snapshot(frozenset(self.processes()), frozenset(self.ports()), frozenset(self.files()))

    # --- links

    def link_down(self, network: Network = "fabric") -> None:
        """Pull the machine's cable out of the switch."""
        net.set_up(self.switch, net.port(self.name, network), up=False)

    def link_up(self, network: Network = "fabric") -> None:
        """Plug the cable in again."""
        net.set_up(self.switch, net.port(self.name, network), up=True)

    def set_mtu(self, mtu: int, network: Network = "fabric") -> None:
        """Set the MTU of the machine's NIC in bytes; the switch carries up to 9216."""
        net.set_mtu(self.namespace, NIC[network], mtu)

    def limit(self, bits_per_second: int | None, network: Network = "fabric") -> None:
        """Slow the machine's link in both directions; None takes the limit away."""
        net.limit(self.namespace, NIC[network], bits_per_second)
        net.limit(self.switch, net.port(self.name, network), bits_per_second)

    def bytes(self, network: Network = "fabric") -> Counters:
        """Count the bytes that the NIC has received and sent since it was made."""
        return net.counters(self.namespace, NIC[network])
