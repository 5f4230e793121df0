"""The lab by hand: `python tests/lab up --hosts 3`, `shell h1`, `down`."""

# ruff: noqa: T201 - what it prints is its answer
import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a folder, not as a package

from lab.host import LabHost
from lab.lab import FOLDER, Lab, clear, prefix
from lab.needs import missing


def kept() -> list[int]:
    """List the numbers of the labs that were made by hand."""
    return sorted(int(mark.parent.name) for mark in FOLDER.glob("*/kept"))


def up(arguments: argparse.Namespace) -> int:
    """Make a lab that stays, and write its cluster file."""
    if kept():
        print("a lab is up already: `python tests/lab down` first", file=sys.stderr)
        return 1
    lab = Lab(arguments.hosts, share=arguments.share)
    lab.up()
    arguments.output.write_text(lab.cluster_yaml(), encoding="utf-8")
    lab.keep()
    for host in lab.hosts:
        print(f"{host.name}: ssh -i {lab.key} -o UserKnownHostsFile={lab.known_hosts} root@{host.address}")
    print(f"wrote {arguments.output}; `python tests/lab down` takes it all away")
    return 0


def down(_: argparse.Namespace) -> int:
    """Take away every lab that was made by hand."""
    for number in kept():
        clear(number)
        print(f"lab {number} is gone")
    return 0


def shell(arguments: argparse.Namespace) -> int:
    """Open a shell on a machine."""
    for number in kept():
        folder = FOLDER / str(number) / arguments.host
        if folder.is_dir():
            host = LabHost(
                arguments.host, "", "", f"{prefix(number)}{arguments.host}", f"{prefix(number)}switch", folder
            )
            argv = host.enter([os.environ.get("SHELL", "bash"), "-i"])
            os.execv(argv[0], argv)
    print(f"no lab has a machine named {arguments.host}", file=sys.stderr)
    return 1


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="lab", description="Several machines made out of this one.")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("up", help="make machines that stay until `down`")
    verb.add_argument("--hosts", type=int, default=2)
    verb.add_argument("--share", action="append", default=[], help="a path that the machines see too")
    verb.add_argument("--output", type=Path, default=Path("lab.yaml"), help="the cluster file to write")
    verb.set_defaults(do=up)
    verbs.add_parser("down", help="take them away").set_defaults(do=down)
    verb = verbs.add_parser("shell", help="open a shell on one")
    verb.add_argument("host")
    verb.set_defaults(do=shell)
    arguments = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    return arguments.do(arguments)


if __name__ == "__main__":
    sys.exit(main())
