"""A lab machine's first process: sets up its mounts and name, starts its SSH server, reaps what dies.

Runs as process 1 of new mount, PID, UTS and IPC namespaces, in the machine's network namespace, with one argument: the
JSON that `host.py` wrote. Standard library only.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PRIVATE = ("/tmp", "/run", "/dev/shm")


def mount(*arguments: str) -> None:
    """Run mount(8)."""
    subprocess.run(["mount", *arguments], check=True)


def set_aside(shared: list[dict[str, str]], aside: Path) -> list[tuple[Path, Path]]:
    """Bind what is to be shared to a side folder, before mounts hide it; return (where it is, where it belongs)."""
    pairs = []
    for number, entry in enumerate(shared):
        source, held = Path(entry["source"]), aside / str(number)
        if source.is_dir():
            held.mkdir(parents=True, exist_ok=True)
        else:
            aside.mkdir(parents=True, exist_ok=True)
            held.touch()
        mount("--rbind", str(source), str(held))
        pairs.append((held, Path(entry["target"])))
    return pairs


def put_back(pairs: list[tuple[Path, Path]]) -> None:
    """Bind the shared paths where the machine expects them; outer folders first."""
    for held, target in sorted(pairs, key=lambda pair: len(pair[1].parts)):
        if held.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(exist_ok=True)
        mount("--rbind", str(held), str(target))


def set_up_mounts(config: dict) -> None:
    """Give the machine its own home, temporary folders, shared memory, /proc, /sys and /etc/hosts."""
    mount("--make-rprivate", "/")
    mount("--bind", config["aside"], config["aside"])  # a mount point of its own, so that it can be left behind
    pairs = set_aside(config["shared"], Path(config["aside"]))
    mount("--rbind", config["home"], config["root_home"])
    for folder in PRIVATE:
        mount("-t", "tmpfs", "-o", "mode=1777" if folder != "/run" else "mode=755", "tmpfs", folder)
    mount("-t", "proc", "proc", "/proc")
    mount("-t", "sysfs", "sysfs", "/sys")
    put_back(pairs)
    for name, source in config["etc"].items():
        mount("--bind", source, f"/etc/{name}")


def start_sshd(config: dict) -> None:
    """Start the SSH server; it goes on in the background and leaves its number in /run/sshd.pid."""
    Path("/run/sshd").mkdir(mode=0o755)
    subprocess.run([config["sshd"], "-f", config["sshd_config"], "-E", config["sshd_log"]], check=True)


def main() -> None:
    """Set up, say that the machine is up, then reap until the power goes."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.umask(0o022)
    socket.sethostname(config["name"])
    set_up_mounts(config)
    os.chdir("/")
    start_sshd(config)
    shutil.copyfile("/proc/sys/kernel/random/uuid", config["booted"])
    while True:
        try:
            os.wait()
        except ChildProcessError:  # sshd was stopped and nothing else runs
            time.sleep(0.2)


if __name__ == "__main__":
    main()
