"""Files onto a machine and from it, by its own shell, cat and mv; knows no transport.

A file appears under its name whole or not at all: it is written under a temporary name beside it, its size is
compared, and it is renamed. SFTP is not needed, so that a server without it will do.
"""

import asyncio
import os
import posixpath
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from corral.errors import BadInput, NodeFailed

if TYPE_CHECKING:
    from corral.hosts.running import Running

CHUNK: Final = 262144  # bytes
STALL_SECONDS: Final = 60.0  # without a byte moved; a slow link is no failure

# Arguments: temporary name, target, its folder, mode, size. Signals reach the whole group: the trap clears up.
PUT: Final = """
umask 077
trap 'rm -f -- "$1"' EXIT
trap 'exit 1' HUP INT PIPE TERM
[ ! -d "$2" ] || { echo "$2 is a folder" >&2; exit 1; }
(umask 022; mkdir -p -- "$3") && cat > "$1" || exit 1
[ "$(wc -c < "$1")" -eq "$5" ] || { echo "it arrived cut short" >&2; exit 1; }
chmod "$4" "$1" && mv -f -- "$1" "$2"
"""
REMEDIES: Final = {
    "No space left": "Free space on that disk, or name another folder for the node in the cluster file.",
    "quota": "Free space in that quota, or name another folder for the node in the cluster file.",
    "Read-only file system": "Name a folder on a writable disk for the node in the cluster file.",
    "Permission denied": "Give the login user the right to that folder, or name another one in the cluster file.",
    "No such file": "See whether the path is right.",
}


class Starter(Protocol):
    """A host that can start commands."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> "Running":
        """Start a command."""
        ...


async def put(
    host: Starter, source: Path | bytes, target: str, mode: int, on_bytes: Callable[[int], None] | None = None
) -> None:
    """Write `source` to `target` on the machine; NodeFailed says why not, BadInput when `source` cannot be read.

    `on_bytes` is told after each chunk how many bytes have been handed to the connection so far.
    """
    size = len(source) if isinstance(source, bytes) else _size(source)
    temporary = f"{target}.{os.urandom(4).hex()}.part"
    folder = posixpath.dirname(target) or "."
    running = await host.start(("sh", "-c", PUT, "sh", temporary, target, folder, f"{mode:o}", str(size)), {})
    try:
        async with asyncio.timeout(STALL_SECONDS) as deadline:
            sent = 0
            async for chunk in _chunks(source):
                await running.write(chunk)
                sent += len(chunk)
                if on_bytes:
                    on_bytes(sent)
                deadline.reschedule(asyncio.get_running_loop().time() + STALL_SECONDS)
            running.close_input()
            message = await _read_error(running)
            if await running.wait() != 0:
                raise _failed(host.name, f"write {target}", message)
    except TimeoutError:
        raise _stalled(host.name, target) from None
    finally:
        await running.end()


async def get(host: Starter, source: str, target: Path) -> None:
    """Read `source` of the machine into `target` here."""
    running = await host.start(("cat", "--", source), {})
    running.close_input()
    try:
        with _whole(target) as file:
            async with asyncio.timeout(STALL_SECONDS) as deadline:
                while chunk := await running.read():
                    await asyncio.to_thread(file.write, chunk)
                    deadline.reschedule(asyncio.get_running_loop().time() + STALL_SECONDS)
                message = await _read_error(running)
                if await running.wait() != 0:
                    raise _failed(host.name, f"read {source}", message)
    except TimeoutError:
        raise _stalled(host.name, source) from None
    finally:
        await running.end()


@contextmanager
def _whole(target: Path) -> Generator[BinaryIO, None, None]:
    """Write a file that takes its name when the context is left without an error, and else is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror}.", "See whether the path is right.") from None


async def _chunks(source: Path | bytes) -> AsyncIterator[bytes]:
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK):
            yield source[start : start + CHUNK]
        return
    with source.open("rb") as file:  # opening is quick; reading is done beside the loop
        while chunk := await asyncio.to_thread(file.read, CHUNK):
            yield chunk


async def _read_error(running: "Running") -> str:
    text = bytearray()
    while chunk := await running.read_error():
        text += chunk[: 4096 - len(text)]
    return text.decode(errors="replace").strip()


def _failed(node: str, what: str, message: str) -> NodeFailed:
    lines = message.splitlines()
    reason = lines[0].removeprefix("sh: ") if lines else "it gave no reason"
    remedy = next((remedy for word, remedy in REMEDIES.items() if word in message), "See that folder on the machine.")
    return NodeFailed(node, f"{node} could not {what}: {reason}.", remedy)


def _stalled(node: str, path: str) -> NodeFailed:
    return NodeFailed(
        node,
        f"The transfer of {path} with {node} stood still for {STALL_SECONDS:.0f} s.",
        "See whether the network to the machine works and its disk answers; then try again.",
    )
