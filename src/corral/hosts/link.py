"""One SSH connection and the commands on it; knows no other connection and how none was made.

Beside the commands runs a keeper (`shell.KEEP`), which ends them on demand and, on the machine itself, when the
connection is gone: by a crash here, a cut, or a close.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

import asyncssh

from corral.errors import NodeFailed
from corral.hosts import shell
from corral.hosts.connect import connect
from corral.hosts.connection import Connection
from corral.hosts.running import CHUNK, GRACE_SECONDS, drop

SESSIONS: Final = 10  # MaxSessions of sshd_config(5) where nothing else is set
START_SECONDS: Final = 20.0
PROFILE_BYTES: Final = 65536  # that a login shell's profile may print before a command starts

Process = asyncssh.SSHClientProcess[bytes]


class NoSession(Exception):
    """The server allows no more sessions on this connection."""


class Link:
    """A connection with its keeper; `reserve` a session before starting a command in it."""

    def __init__(self, name: str, path: list[asyncssh.SSHClientConnection]) -> None:
        self._name = name
        self._path = path
        self._keeper: Process | None = None
        self._used = 0
        self._limit = SESSIONS

    @classmethod
    async def open(cls, to: Connection) -> "Link":
        """Connect and start the keeper."""
        link = cls(to.name, await connect(to))
        try:
            link._used += 1
            link._keeper, _, _ = await link._session(shell.KEEP, b"")
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def connection(self) -> asyncssh.SSHClientConnection:
        """The connection with the machine itself."""
        return self._path[-1]

    @property
    def alive(self) -> bool:
        """Whether it still stands, as far as is known."""
        return not self.connection.is_closed() and self._keeper is not None and not self._keeper.is_closing()

    def reserve(self) -> bool:
        """Take one of the sessions that the server allows; False when none is left or the link is gone."""
        if not self.alive or self._used >= self._limit:
            return False
        self._used += 1
        return True

    def release(self) -> None:
        """Give a session back."""
        self._used -= 1

    def failed(self, what: str, remedy: str) -> NodeFailed:
        """Make the error that names the machine."""
        return NodeFailed(self._name, f"{self._name} {what}.", remedy)

    def lost(self) -> NodeFailed:
        """Make the error of a connection that is gone."""
        return self.failed(
            "was lost: the SSH connection broke off", "See whether the machine is on and its network works."
        )

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> "SshRunning":
        """Start a command in a reserved session; NoSession when the server counts otherwise."""
        script = shell.script(argv, env)
        process: Process | None = None
        try:
            process, group, rest = await self._session(shell.START, script)
            self.order("watch", group)  # before the command can begin, so that it is never unwatched
            process.stdin.write(shell.GO)
        except BaseException as error:
            if process is not None:
                process.close()
            self.release()
            if isinstance(error, OSError):
                raise self.lost() from error
            raise
        return SshRunning(self, process, group, rest)

    def order(self, verb: str, group: int) -> None:
        """Tell the keeper."""
        if self._keeper is not None:
            with contextlib.suppress(OSError):  # the connection is gone: the keeper ends everything by itself
                self._keeper.stdin.write(shell.order(verb, group))

    async def _session(self, command: str, script: bytes) -> tuple[Process, int, bytes]:
        """Run `command`, give it `script`, and wait until it says its process number."""
        try:
            async with asyncio.timeout(START_SECONDS):
                process: Process = await self.connection.create_process(command, encoding=None)
                try:
                    process.stdin.write(script)
                    group, rest = await self._read_number(process)
                except BaseException:
                    process.close()
                    raise
                return process, group, rest
        except asyncssh.ChannelOpenError as error:
            if self.connection.is_closed():
                raise self.lost() from error
            self._limit = self._used - 1
            if self._limit < 2:  # the keeper and one command
                raise self.failed(
                    "allows one session a connection only", "Raise MaxSessions in its sshd_config to 10, the default."
                ) from error
            raise NoSession from error
        except TimeoutError as error:
            raise self.failed(
                f"did not start a shell within {START_SECONDS:g} s", "See whether the machine is overloaded."
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise self.lost() from error

    async def _read_number(self, process: Process) -> tuple[int, bytes]:
        printed = b""
        while len(printed) < PROFILE_BYTES:
            chunk = await process.stdout.read(CHUNK)
            if not chunk:
                break
            printed += chunk
            if found := shell.STARTED.search(printed):
                return int(found[1]), printed[found.end() :]
        if self.connection.is_closed():
            raise self.lost()
        said = printed + (await process.stderr.read(CHUNK) if not printed else b"")
        raise self.failed(
            f"gives its login user no POSIX shell (it said: {said[:200].decode(errors='replace').strip()!r})",
            "Log in as a user whose shell runs commands, and see that no profile prints without end.",
        )

    async def close(self) -> None:
        """Let the keeper end what still runs, and close."""
        if self._keeper is not None:
            with contextlib.suppress(TimeoutError, OSError):  # OSError: the connection is gone already
                self._keeper.stdin.write_eof()
                await asyncio.wait_for(self._keeper.wait_closed(), GRACE_SECONDS + 2)
        for connection in reversed(self._path):
            connection.close()
            with contextlib.suppress(TimeoutError, asyncssh.Error, OSError):
                await asyncio.wait_for(connection.wait_closed(), GRACE_SECONDS)


class SshRunning:
    """A command on the machine, in a process group that the keeper knows."""

    def __init__(self, link: Link, process: Process, group: int, rest: bytes) -> None:
        self._link = link
        self._process = process
        self._group = group
        self._rest = rest  # of standard output, read with the process number
        self._open = True

    async def read(self) -> bytes:
        """Read some of its standard output."""
        if self._rest:
            rest, self._rest = self._rest, b""
            return rest
        return await self._read(self._process.stdout)

    async def read_error(self) -> bytes:
        """Read some of its standard error."""
        return await self._read(self._process.stderr)

    async def _read(self, reader: "asyncssh.SSHReader[bytes]") -> bytes:
        try:
            return await reader.read(CHUNK)
        except (asyncssh.Error, OSError):
            return b""

    async def write(self, data: bytes) -> None:
        """Write to its standard input."""
        with contextlib.suppress(asyncssh.Error, OSError):
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    def close_input(self) -> None:
        """End its standard input."""
        with contextlib.suppress(OSError):
            self._process.stdin.write_eof()

    async def wait(self) -> int:
        """Wait for its end."""
        await self._process.wait_closed()
        self._forget()
        status = self._process.returncode
        if status is None:
            raise self._link.lost()
        return status

    async def end(self) -> None:
        """End the group through the keeper."""
        if not self._open:
            return
        try:
            self._link.order("TERM", self._group)
            self.close_input()  # for what waits there and missed the signal, as a shell's child before its exec may
            await self._closed_within(GRACE_SECONDS)
        finally:  # also when the waiting is cancelled
            self._link.order("KILL", self._group)  # what ignored the first or outlived its leader
            self._process.close()
            self._forget()
        await self._closed_within(GRACE_SECONDS)

    async def _closed_within(self, seconds: float) -> None:
        closed = asyncio.gather(drop(self.read), drop(self.read_error), self._process.wait_closed())
        with contextlib.suppress(TimeoutError):  # output that nobody reads would keep the channel from closing
            await asyncio.wait_for(closed, seconds)

    def _forget(self) -> None:
        if self._open:
            self._open = False
            self._link.order("forget", self._group)
            self._link.release()
