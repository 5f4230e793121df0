"""One node as a launch sees it: what it is, its ports and files, its ranks; knows no engine and no other node."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Final, cast

from corral.engines.base import PortOpen, Rank
from corral.errors import NodeFailed
from corral.hosts.base import Host, Stream
from corral.hosts.python import run_script, stream_script
from corral.values import Value

CACHE: Final = "~/.cache/corral"
READ_SECONDS: Final = 20.0  # for scripts that only look
PRINTS_SECONDS: Final = 120.0  # 2 MiB of each of a few hundred files, perhaps from a disk that turns
STOP_SECONDS: Final = 60.0


class NodeFacts(Value):
    """What a launch must know of a node, as `onnode/site.py` told it. Sizes in bytes."""

    cache: str
    home: str
    uid: int
    interface: str
    cores: int
    memory_total: int
    memory_available: int
    disk_free: int
    shm_bytes: int
    python: str
    python_version: str
    machine: str
    system: str
    host_name: str


# A script arrives as one text: the module that it shares with others is made of a part of it.
_FOLDER: Final = "corral.launcher.onnode"
_SHARED: Final = f"{_FOLDER}.building"
_WITH_SHARED: Final = """\
import sys, types
sys.modules[{module!r}] = types.ModuleType({module!r})
exec(compile({shared!r}, {module!r}, "exec"), vars(sys.modules[{module!r}]))
exec(compile({script!r}, sys.argv[0], "exec"))
"""


class RankRecord(Value):
    """Where a rank's records and its private folder are on its node."""

    run: str
    scratch: str
    marks: Mapping[str, str]


@cache
def script(name: str) -> str:
    """The source of a script that runs on nodes, with what it shares with others in front of it."""
    folder = files(_FOLDER)
    text = folder.joinpath(f"{name}.py").read_text(encoding="utf-8")
    if f"\nfrom {_SHARED} import " not in text:
        return text
    shared = folder.joinpath("building.py").read_text(encoding="utf-8")
    return _WITH_SHARED.format(module=_SHARED, shared=shared, script=text)


class Node:
    """The machine behind a host, asked by means of the scripts in `onnode`."""

    def __init__(self, host: Host, *, address: str, python: str = "python3", cache_folder: str = CACHE) -> None:
        self.host = host
        self.name = host.name
        self.address = address
        self._python = python
        self._cache = cache_folder

    async def describe(self) -> NodeFacts:
        """Look at the node; NodeFailed when it cannot be reached or has no Python."""
        told = await self._ask("site", "describe", {"address": self.address, "cache": self._cache})
        return NodeFacts.model_validate(told)

    async def ports(self, wants: Sequence[str], address: str) -> dict[str, int]:
        """Pick free ports by name, as `Engine.ports` asks for them."""
        if not wants:
            return {}
        return await self._ask("site", "ports", {"address": address, "wants": list(wants)})

    async def present(self, folder: str, wanted: Sequence[tuple[str, int]]) -> dict[str, str]:
        """Which of the files (name, bytes) stand in the folder whole, each with its print (`site.print_of`)."""
        request = {"folder": folder, "files": [list(file) for file in wanted]}
        told = await self._ask("site", "files", request, seconds=PRINTS_SECONDS)
        return told["present"]

    async def start(self, rank: Rank, record: RankRecord) -> None:
        """Start a rank; it lives on without this connection and without Corral."""
        marks = dict(record.marks) | {"CORRAL_RANK": rank.name}
        request = {
            "run": record.run,
            "scratch": record.scratch,
            "rank": rank.name,
            "argv": list(rank.argv),
            "env": {"TMPDIR": record.scratch, **rank.env, **marks},
            "files": dict(rank.files),
        }
        await self._ask("ranks", "start", request)

    async def stop(self, record: RankRecord, *, grace: float = 10.0) -> dict[str, Any]:
        """End every process with these marks and remove its folders; tells {"ended", "killed", "left"}."""
        request = {"run": record.run, "scratch": record.scratch, "marks": dict(record.marks), "grace": grace}
        return await self._ask("ranks", "stop", request, seconds=STOP_SECONDS + grace)

    @asynccontextmanager
    async def watch(
        self,
        record: RankRecord,
        *,
        offsets: Mapping[str, int],
        ports: Mapping[str, PortOpen],
        interval: float,
    ) -> AsyncGenerator[Stream]:
        """Stream what happens to the ranks, as JSON lines; see `onnode/ranks.py`."""
        request = {
            "run": record.run,
            "marks": dict(record.marks),
            "offsets": dict(offsets),
            "ports": {rank: [wanted.address, wanted.port] for rank, wanted in ports.items()},
            "interval": interval,
        }
        async with stream_script(
            self.host, script("ranks"), args=("watch",), input=_line(request), python=self._python
        ) as stream:
            yield stream

    @asynccontextmanager
    async def stream(self, name: str, request: Mapping[str, Any]) -> AsyncGenerator[Stream]:
        """Run a script of `onnode` that tells its progress in JSON lines."""
        async with stream_script(self.host, script(name), input=_line(request), python=self._python) as stream:
            yield stream

    async def _ask(
        self, name: str, verb: str, request: Mapping[str, Any], seconds: float = READ_SECONDS
    ) -> dict[str, Any]:
        done = await run_script(
            self.host, script(name), args=(verb,), input=_line(request), python=self._python, timeout=seconds
        )
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        try:
            told = json.loads(lines[-1])
        except (IndexError, ValueError):
            told = None
        if done.status != 0 or not isinstance(told, dict):
            said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise NodeFailed(
                self.name,
                f"Node {self.name} could not {verb} ({name}, status {done.status}): {said[-1]}.",
                f"Try `{self._python} -c 'print(1)'` on that machine, and see whether its disk is full.",
            )
        return cast(dict[str, Any], told)


def _line(request: Mapping[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"
