"""All ranks of one launch: started in order, watched together, stopped together; knows no engine and no stage."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from corral.engines.base import LaunchSpec, LogLine, PortOpen, Rank
from corral.engines.diagnosis import RankEnd, how
from corral.errors import CorralError, NodeFailed
from corral.launcher.node import Node, RankRecord
from corral.launcher.race import together
from corral.launcher.ranklog import RankLogs

STARTING_INTERVAL: Final = 0.1  # seconds between looks while ranks start
SERVING_INTERVAL: Final = 1.0  # and once they serve
# A node whose watch is lost is looked for again this often; it is called lost after so long.
RETRY_SECONDS: Final = 1.0
LOST_SECONDS: Final = 20.0
SILENT_SECONDS: Final = 10.0  # a watch that tells nothing for so long is broken: it tells of resources every 3 s


class RankDied(Exception):
    """A rank ended, or its node cannot be reached, while the gang was to run."""

    def __init__(self, rank: str, node: str, reason: str) -> None:
        super().__init__(f"{rank} on {node}: {reason}")
        self.rank = rank
        self.node = node
        self.reason = reason


class Gang:
    """The ranks of one launch on their nodes.

    `on_log(rank)` and `on_beat(rank, rss bytes, CPU seconds)` are called when a rank writes or its counters are seen.
    """

    def __init__(
        self,
        spec: LaunchSpec,
        nodes: Mapping[str, Node],
        records: Mapping[str, RankRecord],
        logs: RankLogs,
        *,
        on_log: Callable[[str], None],
        on_beat: Callable[[str, int, float], None],
    ) -> None:
        self._ranks = {rank.name: rank for rank in spec.ranks}
        self._nodes = nodes
        self._records = records
        self._logs = logs
        self._on_log = on_log
        self._on_beat = on_beat
        self._ready = {rank.name: asyncio.Event() for rank in spec.ranks}
        self._ended: dict[str, int] = {}  # exit status by rank, in the order in which they were seen to end
        self._lost: dict[str, str] = {}  # reason by node
        self._news = asyncio.Event()
        self._interval = STARTING_INTERVAL
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self, on_ready: Callable[[Rank], None]) -> None:
        """Start every rank as soon as those it comes after are ready; done when all are."""
        self.watch(starting=True)
        await together({name: self._start_rank(rank, on_ready) for name, rank in self._ranks.items()})

    def watch(self, *, starting: bool) -> None:
        """Look at the ranks from now on; an adopted gang is watched without being started."""
        self._interval = STARTING_INTERVAL if starting else SERVING_INTERVAL
        for name in dict.fromkeys(rank.node for rank in self._ranks.values()):
            watcher = asyncio.create_task(self._watch_node(self._nodes[name]))
            watcher.add_done_callback(lambda _: self._news.set())
            self._watchers.append(watcher)

    async def failure(self) -> NoReturn:
        """Wait, for ever if all goes well; RankDied as soon as a rank ends or a node is lost.

        A defect in looking is raised as it is: nobody must believe that ranks are looked at that are not.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            for name, status in self._ended.items():
                raise RankDied(name, self._ranks[name].node, f"ended with {how(status)}")
            for node, reason in self._lost.items():
                rank = next(rank.name for rank in self._ranks.values() if rank.node == node)
                raise RankDied(rank, node, reason)
            for watcher in self._watchers:
                if watcher.done():
                    watcher.result()

    def ends(self) -> list[RankEnd]:
        """How every rank stands, with the last lines of its log."""
        order = {name: number for number, name in enumerate(self._ended)}
        return [
            RankEnd(
                name=rank.name,
                node=rank.node,
                log=self._logs.tail(rank.name),
                status=self._ended.get(rank.name),
                order=order.get(rank.name, len(order)),
            )
            for rank in self._ranks.values()
        ]

    async def close(self) -> None:
        """Stop looking; the ranks go on."""
        for task in self._watchers:
            task.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        self._watchers.clear()

    async def _start_rank(self, rank: Rank, on_ready: Callable[[Rank], None]) -> None:
        for earlier in rank.after:
            await self._ready[earlier].wait()
        await self._nodes[rank.node].start(rank, self._records[rank.node])
        if rank.ready is None:
            self._ready[rank.name].set()
        await self._ready[rank.name].wait()
        on_ready(rank)

    async def _watch_node(self, node: Node) -> None:
        """Follow one node's ranks; a lost connection is made again, a lost node is told."""
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while True:
            try:
                async with node.watch(
                    self._records[node.name],
                    offsets=self._logs.offsets(node.name),
                    ports=self._pending_ports(node.name),
                    interval=self._interval,
                ) as stream:
                    async with asyncio.timeout(SILENT_SECONDS) as silence:
                        async for line in stream:
                            seen = loop.time()
                            silence.reschedule(seen + SILENT_SECONDS)
                            self._take(node.name, json.loads(line))
                reason = "its watch ended"
            except TimeoutError:
                reason = f"nothing came from it for {SILENT_SECONDS:.0f} s"
            except (CorralError, ValueError) as error:
                reason = error.cause if isinstance(error, NodeFailed) else str(error)
            if loop.time() - seen > LOST_SECONDS:
                self._lost[node.name] = reason
                self._news.set()
                return
            await asyncio.sleep(RETRY_SECONDS)

    def _pending_ports(self, node: str) -> dict[str, PortOpen]:
        """The ports that ranks of the node are still waited for to open."""
        ranks = (rank for rank in self._ranks.values() if rank.node == node and not self._ready[rank.name].is_set())
        return {rank.name: rank.ready for rank in ranks if isinstance(rank.ready, PortOpen)}

    def _take(self, node: str, news: Mapping[str, Any]) -> None:
        """Take in one line of a node's watch."""
        if "beat" in news:
            for name in self._ranks.keys() & news["beat"].keys():
                self._on_beat(name, news["beat"][name]["rss"], news["beat"][name]["cpu"])
            return
        rank = self._ranks.get(news.get("log") or news.get("ready") or news.get("exit") or "")
        if rank is None:
            return  # a node that names what it was not given: never a path on this machine
        if "log" in news:
            self._logs.write(rank.name, node, news["text"], news["offset"])
            self._on_log(rank.name)
            if isinstance(rank.ready, LogLine) and self._logs.shows(rank.name, rank.ready.pattern):
                self._ready[rank.name].set()
        elif "ready" in news:
            self._ready[rank.name].set()
        else:
            self._ended.setdefault(rank.name, news["status"])
            self._news.set()


async def stop_all(
    nodes: Mapping[str, Node], records: Mapping[str, RankRecord], *, grace: float = 10.0
) -> dict[str, str]:
    """End a launch on every node at once; gives the nodes that could not be reached or cleaned, with the reason."""

    async def stop(name: str) -> str:
        try:
            told = await nodes[name].stop(records[name], grace=grace)
        except CorralError as error:
            return error.cause
        return f"processes {told['left']} could not be ended" if told["left"] else ""

    names = list(records)
    reasons = await asyncio.gather(*(stop(name) for name in names))
    return {name: reason for name, reason in zip(names, reasons, strict=True) if reason}
