"""A machine that does what a test says: answers, is slow, talks garbage, is dead, breaks off; starts nothing.

host = Fake("n1")
host.on("nvidia-smi", "-L", reply=Reply(stdout=b"GPU 0: ..."))
host.on("python3", reply=lambda call: Reply(stdout=call.input))
host.on(reply=Reply(breaks=True))     # everything else: the connection is lost
assert host.calls[0].argv == ("nvidia-smi", "-L")
"""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from corral.errors import NodeFailed
from corral.hosts.base import Forward
from corral.hosts.running import CommandHost, Running


@dataclass(slots=True)
class Call:
    """A command that was asked for. `input` grows while it is written; `ended` is set when it was made to end."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    input: bytes = b""
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command does: prints `stdout` and `stderr` after `delay` seconds (infinite: never), and ends.

    With `breaks` the connection is lost after the output instead.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    status: int = 0
    delay: float = 0.0
    breaks: bool = False


Answer = Reply | Callable[[Call], Reply]


@dataclass(frozen=True, slots=True)
class _Rule:
    patterns: tuple[str, ...]
    reply: Answer

    def fits(self, argv: tuple[str, ...]) -> bool:
        """Whether each pattern (a glob) fits its word; further words are free."""
        return len(argv) >= len(self.patterns) and all(map(fnmatchcase, argv, self.patterns))


class Fake(CommandHost):
    """A scripted machine. A command that no rule fits is not found: status 127. The latest fitting rule counts."""

    def __init__(self, name: str = "fake", *, is_local: bool = False) -> None:
        super().__init__(name)
        self._is_local = is_local
        self._rules: list[_Rule] = []
        self.calls: list[Call] = []
        self.files: dict[str, bytes] = {}  # by path, what was put and what can be got
        self.modes: dict[str, int] = {}
        self.dead = False  # while true, the machine cannot be reached
        self.closed = False

    @property
    def is_local(self) -> bool:
        """As it was made."""
        return self._is_local

    def on(self, *patterns: str, reply: Answer) -> None:
        """Answer commands whose first words fit the patterns; a function is asked when the input is there."""
        self._rules.append(_Rule(patterns, reply))

    async def start(self, argv: tuple[str, ...], env: Mapping[str, str]) -> Running:
        """Record the call and play its reply."""
        self._reached()
        call = Call(argv, dict(env))
        self.calls.append(call)
        missing = Reply(stderr=f"{argv[0]}: not found\n".encode(), status=127)
        rule = next((rule for rule in reversed(self._rules) if rule.fits(argv)), _Rule((), missing))
        return FakeRunning(self, call, rule.reply)

    async def put(
        self, source: Path | bytes, target: str, *, mode: int = 0o644, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Keep the file in `files`; tells its bytes once."""
        self._reached()
        self.files[target] = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
        self.modes[target] = mode
        if on_bytes:
            on_bytes(len(self.files[target]))

    async def get(self, source: str, target: Path) -> None:
        """Write a file of `files`."""
        self._reached()
        if source not in self.files:
            raise NodeFailed(self.name, f"{self.name} could not read {source}: No such file.", "See the path.")
        await asyncio.to_thread(target.write_bytes, self.files[source])

    @asynccontextmanager
    async def forward(self, port: int, *, host: str = "127.0.0.1") -> AsyncGenerator[Forward, None]:
        """Name the same port here, where a test may listen."""
        self._reached()
        yield Forward(host, port)

    async def close(self) -> None:
        """Remember that it was called."""
        self.closed = True

    def lost(self) -> NodeFailed:
        """Make the error of a machine that is gone."""
        return NodeFailed(self.name, f"{self.name} was lost: the connection broke off.", "See whether it is on.")

    def _reached(self) -> None:
        if self.dead:
            raise NodeFailed(self.name, f"{self.name} did not answer within 10 s.", "See whether it is on.")


class FakeRunning:
    """A command that plays its reply from the moment it is first read or waited for."""

    def __init__(self, host: Fake, call: Call, answer: Answer) -> None:
        self._host = host
        self._call = call
        self._answer = answer
        self._playing: asyncio.Task[Reply] | None = None
        self._told: set[str] = set()
        self._finished = False

    async def read(self) -> bytes:
        """Give the standard output, once."""
        return await self._tell("stdout")

    async def read_error(self) -> bytes:
        """Give the standard error, once."""
        return await self._tell("stderr")

    async def write(self, data: bytes) -> None:
        """Keep the input in the call."""
        self._call.input += data

    def close_input(self) -> None:
        """Do nothing: what is written before the first read is the input."""

    async def wait(self) -> int:
        """Give the status, or lose the machine."""
        playing = await self._played()
        self._finished = True
        if playing.cancelled():
            return -signal.SIGTERM
        reply = playing.result()
        if reply.breaks or self._host.dead:
            raise self._host.lost()
        return reply.status

    async def end(self) -> None:
        """End it."""
        if not self._finished:
            self._call.ended = True
            if self._playing is not None:
                self._playing.cancel()

    async def _tell(self, name: Literal["stdout", "stderr"]) -> bytes:
        playing = await self._played()
        if name in self._told or playing.cancelled() or playing.exception():
            return b""
        self._told.add(name)
        return playing.result().stdout if name == "stdout" else playing.result().stderr

    async def _played(self) -> asyncio.Task[Reply]:
        if self._playing is None:
            self._playing = asyncio.create_task(self._play())
        await asyncio.wait([self._playing])
        return self._playing

    async def _play(self) -> Reply:
        reply = self._answer if isinstance(self._answer, Reply) else self._answer(self._call)
        await asyncio.sleep(reply.delay)
        return reply
