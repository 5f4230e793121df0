"""Keys and configuration for the lab machines' SSH servers; starts nothing."""

import os
import subprocess
import sys
from pathlib import Path

from lab.needs import program

# The server's defaults wherever a real node has them (ten sessions a connection among them); what differs is that
# nothing of this machine's own configuration is read, and only the lab's key opens the door.
CONFIG = """\
Port 22
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {authorized}
PidFile /run/sshd.pid
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
Subsystem sftp internal-sftp
SetEnv PATH={path}
"""


def node_path() -> str:
    """Build the PATH of a machine's sessions: the Python that runs the lab first, then the system's own."""
    return f"{sys.base_prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_key(path: Path, comment: str) -> str:
    """Make an Ed25519 key pair and return its public half."""
    path.unlink(missing_ok=True)
    subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text(encoding="utf-8").strip()


def write_server(folder: Path, authorized: Path) -> Path:
    """Write a server's configuration beside its host key."""
    config = folder / "sshd_config"
    config.write_text(CONFIG.format(folder=folder, authorized=authorized, path=node_path()), encoding="utf-8")
    return config


def known_hosts(keys: dict[tuple[str, ...], str]) -> str:
    """Write a known-hosts file's text from the public host keys by the names and addresses of each machine."""
    lines = (f"{','.join(names)} {' '.join(key.split()[:2])}" for names, key in keys.items())
    return os.linesep.join(lines) + os.linesep
