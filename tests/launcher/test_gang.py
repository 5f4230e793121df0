"""A gang whose nodes say what a test says."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from corral.engines.base import Api, LaunchSpec, LogLine, PortOpen, Rank
from corral.errors import NodeFailed
from corral.launcher import gang as gang_module
from corral.launcher.gang import Gang, RankDied
from corral.launcher.node import RankRecord
from corral.launcher.ranklog import RankLogs

RECORD = RankRecord(run="/run", scratch="/scratch", marks={})


class Scripted:
    """A node that takes every rank and tells the lines it is given."""

    def __init__(self, name):
        self.name = name
        self.news = asyncio.Queue()
        self.started = []
        self.begun = asyncio.Event()
        self.watches = 0

    def tell(self, **news):
        self.news.put_nowait(json.dumps(news).encode())

    async def start(self, rank, _record):
        self.started.append(rank.name)
        self.begun.set()

    @asynccontextmanager
    async def watch(self, _record, *, offsets, ports, interval):
        self.watches += 1

        async def lines():
            while (line := await self.news.get()) is not None:
                if isinstance(line, Exception):
                    raise line
                yield line

        yield lines()


@pytest.fixture
async def lab(tmp_path):
    nodes = {name: Scripted(name) for name in ("a", "b")}
    ranks = (
        Rank(name="worker", node="b", argv=("w",), env={}, ready=LogLine(pattern="ready to serve")),
        Rank(name="server", node="a", argv=("s",), env={}, after=("worker",), ready=PortOpen(address="x", port=1)),
    )
    beats, beat = [], asyncio.Event()

    def on_beat(*told):
        beats.append(told)
        beat.set()

    made = Gang(
        LaunchSpec(ranks=ranks, api=Api(node="a", port=1)),
        nodes,
        dict.fromkeys(nodes, RECORD),
        RankLogs(tmp_path / "logs"),
        on_log=lambda rank: None,
        on_beat=on_beat,
    )
    made.beats, made.beat = beats, beat
    yield made, nodes
    await made.close()


async def test_a_rank_starts_when_those_it_comes_after_are_ready(lab):
    gang, nodes = lab
    ready = []
    starting = asyncio.create_task(gang.start(lambda rank: ready.append(rank.name)))
    nodes["b"].tell(log="worker", offset=5, text="hello\n")
    await asyncio.sleep(0.01)
    assert (nodes["b"].started, nodes["a"].started) == (["worker"], [])
    nodes["b"].tell(log="worker", offset=20, text="ready to serve\n")
    await asyncio.wait_for(nodes["a"].begun.wait(), 5)
    nodes["a"].tell(ready="server")
    await asyncio.wait_for(starting, 5)
    assert ready == ["worker", "server"]


async def test_a_rank_that_ends_is_told_with_its_node(lab):
    gang, nodes = lab
    gang.watch(starting=False)
    nodes["b"].tell(exit="worker", status=137)
    with pytest.raises(RankDied, match="worker on b: ended with a kill"):
        await asyncio.wait_for(gang.failure(), 5)
    assert [(end.name, end.status) for end in gang.ends()] == [("worker", 137), ("server", None)]


async def test_a_watch_that_breaks_is_made_again(lab, monkeypatch):
    monkeypatch.setattr(gang_module, "RETRY_SECONDS", 0.0)
    gang, nodes = lab
    gang.watch(starting=False)
    nodes["b"].news.put_nowait(NodeFailed("b", "b went away.", ""))
    nodes["b"].tell(exit="worker", status=1)
    with pytest.raises(RankDied):
        await asyncio.wait_for(gang.failure(), 5)
    assert nodes["b"].watches == 2


async def test_a_node_that_stays_silent_is_lost(lab, monkeypatch):
    gang, _ = lab
    for name in ("RETRY_SECONDS", "LOST_SECONDS", "SILENT_SECONDS"):
        monkeypatch.setattr(gang_module, name, 0.05)
    gang.watch(starting=False)
    with pytest.raises(RankDied, match="nothing came from it"):
        await asyncio.wait_for(gang.failure(), 5)


async def test_a_defect_of_the_watch_does_not_look_like_health(lab):
    gang, nodes = lab
    gang.watch(starting=False)
    nodes["a"].news.put_nowait(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(gang.failure(), 5)


async def test_a_node_cannot_name_files_on_this_machine(lab, tmp_path):
    gang, nodes = lab
    gang.watch(starting=False)
    nodes["a"].tell(log="../../outside", offset=1, text="x")
    nodes["a"].tell(beat={"nobody": {"rss": 1, "cpu": 1}, "server": {"rss": 7, "cpu": 1.0}})
    await asyncio.wait_for(gang.beat.wait(), 5)
    assert gang.beats == [("server", 7, 1.0)]
    assert sorted(path.name for path in tmp_path.rglob("*.log")) == []
