"""What the lab needs of the machine that it runs on; changes nothing."""

import os
import shutil
import subprocess

PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "ss": "iproute2",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
}
PROGRAMS |= {"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount"}
PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


def missing() -> str:
    """Say in a sentence what is missing and how to get it; empty when the lab can run."""
    if os.geteuid() != 0:
        return "the lab makes namespaces and bridges: run it as root"
    absent = [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]
    if absent:
        packages = sorted({PROGRAMS[program] for program in absent})
        return f"the lab needs {', '.join(absent)}: apt-get install {' '.join(packages)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"],
                           capture_output=True, text=True, check=False)  # fmt: skip
    if tried.returncode != 0:
        return (
            f"the lab needs namespaces, which this machine refuses ({tried.stderr.strip()}): run it outside a container"
        )
    return ""


def program(name: str) -> str:
    """Return the path of a program; sshd insists on being started by its full one."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise FileNotFoundError(name)
    return path
