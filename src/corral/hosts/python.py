"""Single-file Python scripts, run on a machine without writing a file there; knows not what they do."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from corral.errors import NodeFailed
from corral.hosts.base import Completed, Host, Stream

# Reads exactly the script from standard input, unbuffered, so that the rest is the script's. The current folder is
# taken off the module path: a folder named like a module must not be imported from there.
BOOTSTRAP: Final = """\
import os, sys
size, source = int(sys.argv[1]), b""
while len(source) < size:
    piece = os.read(0, size - len(source))
    if not piece:
        sys.exit("the script arrived cut short")
    source += piece
del sys.argv[:2]
sys.path[:] = [path for path in sys.path if path]
exec(compile(source, sys.argv[0], "exec"), {"__name__": "__main__"})
"""
NOT_FOUND: Final = 127  # what a shell says of a program that is not there


def _argv(python: str, source: bytes, name: str, args: Sequence[str]) -> tuple[str, ...]:
    return (python, "-c", BOOTSTRAP, str(len(source)), name, *args)


def _found(host: Host, python: str, completed: Completed) -> Completed:
    if completed.status == NOT_FOUND:
        raise NodeFailed(
            host.name,
            f"{host.name} has no {python}.",
            "Install it there (Debian and Ubuntu: `apt-get install python3`), or name one as the node's `python`.",
        )
    return completed


async def run_script(
    host: Host,
    source: str,
    *,
    name: str = "script",
    args: Sequence[str] = (),
    input: bytes = b"",  # noqa: A002 - the word that subprocess.run uses
    env: Mapping[str, str] | None = None,
    python: str = "python3",
    timeout: float = 60.0,  # noqa: ASYNC109 - as Host.run
) -> Completed:
    """Run a script with `sys.argv` = [name, *args] and `input` as its standard input; NodeFailed without Python."""
    code = source.encode()
    argv = _argv(python, code, name, args)
    return _found(host, python, await host.run(argv, input=code + input, env=env, timeout=timeout))


@asynccontextmanager
async def stream_script(
    host: Host,
    source: str,
    *,
    name: str = "script",
    args: Sequence[str] = (),
    input: bytes = b"",  # noqa: A002 - as above
    env: Mapping[str, str] | None = None,
    python: str = "python3",
) -> AsyncGenerator[Stream, None]:
    """Start a script as `run_script` does and read it line by line, its standard input open as `Host.stream`'s."""
    code = source.encode()
    async with host.stream(_argv(python, code, name, args), input=code + input, env=env) as stream:
        yield _ScriptStream(host, python, stream)


class _ScriptStream:
    """A script's stream, which tells a missing Python from a script that failed."""

    def __init__(self, host: Host, python: str, stream: Stream) -> None:
        self._host = host
        self._python = python
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for line in self._stream:
            yield line
        await self.wait()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def wait(self) -> Completed:
        return _found(self._host, self._python, await self._stream.wait())
