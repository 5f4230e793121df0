"""A real SSH server on a loopback port, and each kind of host to hold the same tests against."""

import contextlib
import getpass
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from corral.hosts import Connection, Host, Local
from corral.hosts.ssh import Ssh
from lab import needs, sshd
from lab.host import wait_until

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
SetEnv HOME={folder}
"""  # its own home: what a developer's shell profile does is no part of these tests


@dataclass(slots=True)
class Server:
    """A server that can be stopped, started again and given another host key."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def connection(self) -> Connection:
        return Connection(name="node", address="127.0.0.1", port=self.port, user=getpass.getuser(),
                          key=str(self.folder / "key"), known_hosts=str(self.folder / "known_hosts"))  # fmt: skip

    def new_host_key(self) -> str:
        return " ".join(sshd.make_key(self.folder / "host_key", "host").split()[:2])

    def trust(self, key: str) -> None:
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n", encoding="utf-8")

    def start(self, **settings: object) -> None:
        config = self.folder / "sshd_config"
        more = "".join(f"{word} {value}\n" for word, value in settings.items())
        config.write_text(more + CONFIG.format(port=self.port, folder=self.folder), encoding="utf-8")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        argv = [needs.program("sshd"), "-D", "-f", str(config), "-E", str(self.folder / "log")]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        wait_until(self.answers, "sshd", 10)

    def answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                return link.recv(4) == b"SSH-"
        except OSError:
            return False

    def sessions(self) -> list[int]:
        """List the processes that serve connections."""
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def cut(self) -> None:
        """Kill what serves the connections; the server goes on."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)

    def stop(self) -> None:
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None


def make_server(folder: Path) -> Server:
    try:
        needs.program("sshd")
    except FileNotFoundError:
        pytest.skip("needs sshd: apt-get install openssh-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = Server(folder, free.getsockname()[1])
    sshd.make_key(folder / "key", "user")
    server.trust(server.new_host_key())
    return server


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server that no test disturbs."""
    server = make_server(tmp_path_factory.mktemp("sshd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path) -> Iterator[Server]:
    """A server of the test's own, not started."""
    folder = tmp_path / "sshd"
    folder.mkdir()
    server = make_server(folder)
    yield server
    server.stop()


@pytest.fixture(params=["local", "ssh"])
async def host(request) -> AsyncIterator[Host]:
    made = Local() if request.param == "local" else Ssh(request.getfixturevalue("server").connection)
    yield made
    await made.close()
