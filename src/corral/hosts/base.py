"""What every machine can be asked to do, however it is reached; knows no transport."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended: its exit status (-N when signal N ended it) and all that it printed."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes


class Stream(Protocol):
    """A command that runs: its standard output line by line, its standard input open until closed."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield each line of standard output without its newline; ends when the command does."""
        ...

    async def write(self, data: bytes) -> None:
        """Write to the command's standard input."""
        ...

    async def wait(self) -> Completed:
        """Wait for the end; `stdout` is empty (it was streamed), `stderr` holds the last 64 KiB."""
        ...


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of the machine, made reachable here at host:port."""

    host: str
    port: int


class Host(Protocol):
    """One machine. Every method raises NodeFailed when the machine cannot be reached or the connection is lost.

    Secrets go through `input`, `write` or `env`; never through `argv`, which every user of the machine can read.
    """

    @property
    def name(self) -> str:
        """The node's name in the cluster file."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether this is the machine that Corral itself runs on."""
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - the word that subprocess.run uses
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - part of the request: the command is ended on the far side too
    ) -> Completed:
        """Run a command to its end. A missing program is status 127; at `timeout` it is ended and NodeFailed raised."""
        ...

    def stream(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - as above
        env: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Stream]:
        """Start a command, write `input` and leave its standard input open; leaving the context ends the command."""
        ...

    async def put(
        self, source: Path | bytes, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Write a file on the machine, whole or not at all (through a temporary name beside it); makes its folder.

        `on_bytes` is told how many bytes have been sent so far, often.
        """
        ...

    async def get(self, source: str, target: Path) -> None:
        """Read a file of the machine into `target`, whole or not at all."""
        ...

    def forward(self, port: int, *, host: str = "127.0.0.1") -> AbstractAsyncContextManager[Forward]:
        """Make host:port as seen by the machine reachable from here until the context is left."""
        ...

    async def close(self) -> None:
        """Give the connection back; commands that still run through it are ended."""
        ...
