"""The seam to a machine: run, stream, put, get, forward; knows no engine and no deployment."""

from corral.hosts.base import Completed, Forward, Host, Stream
from corral.hosts.connection import Connection
from corral.hosts.local import Local
from corral.hosts.python import run_script, stream_script

__all__ = ["Completed", "Connection", "Forward", "Host", "Local", "Stream", "open_host", "run_script", "stream_script"]


def open_host(name: str, connection: Connection | None = None) -> Host:
    """Make the host of a node: over SSH by a connection, or this machine itself without one.

    Nothing is connected yet; the first call does that.
    """
    if connection is None:
        return Local(name)
    from corral.hosts.ssh import Ssh  # noqa: PLC0415 - asyncssh takes long to import, and one machine needs none

    return Ssh(connection)
