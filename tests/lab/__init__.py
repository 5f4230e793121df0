"""The lab: several machines made out of this one, for tests and by hand; knows nothing of Corral.

A machine is a set of namespaces: its own network, processes, mounts (`/dev/shm`, `/tmp`, `/run`, root's home) and host
name, with an SSH server of its own on port 22 of its own address. Two networks join the machines: `management`
(eth0, where the head also is) and `fabric` (fab0, between the machines only). Nothing is routed anywhere else.
"""

from lab.host import LabHost, Process, Snapshot
from lab.lab import Lab
from lab.needs import missing

__all__ = ["Lab", "LabHost", "Process", "Snapshot", "missing"]
