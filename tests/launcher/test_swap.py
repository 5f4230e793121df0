"""Models that come and go, on machines and a clock that are made up; the database, the table and the book are real."""

import asyncio
import itertools
import random
from contextlib import asynccontextmanager

import pytest

from corral.cluster.values import Cluster, Node
from corral.gateway.desk.values import Replica
from corral.gateway.table import Failed, Loading, Ready, Table, Unloaded
from corral.launcher import swap
from corral.launcher.ledger import Ledger
from corral.launcher.planning import place
from corral.store.state import Store
from corral.store.values import DeploymentRequest, Failure, Offered
from corral.units import GIB
from launcher.test_planning import FACTS
from launcher.test_rooms import sized

LOAD = 4.0  # seconds that the made-up engines load


class World:
    """A head without engines: what is asked for loads in `LOAD` seconds, what is told to end has ended at once."""

    def __init__(self, folder, monkeypatch, memory):
        self.now = 1000.0
        self.store = Store(lambda: self.now, folder)
        self.table = Table(monotonic=lambda: self.now)
        self.ledger = Ledger()
        self.facts = {"here": FACTS.model_copy(update={"memory_total": memory * GIB, "memory_available": memory * GIB})}
        self.swapper = swap.Swapper(self.store, self.table, self.ledger, self.runner, lambda: self.now)
        self.broken = set()
        self.launches = []
        self.ended = []
        self.ready_at = {}
        monkeypatch.setattr(swap, "obtain", self.obtain)
        monkeypatch.setattr(swap, "look", self.look)
        monkeypatch.setattr(swap, "reach", self.reach)
        monkeypatch.setattr(swap, "cache_here", lambda _nodes, _facts: "")
        monkeypatch.setattr(swap.asyncio, "to_thread", self.at_once)
        monkeypatch.setattr(swap.time, "time", lambda: self.now)

    async def at_once(self, function, *arguments):
        return function(*arguments)

    async def obtain(self, request, _cache, report):
        report("model", "found", fraction=1.0)
        return self.model(request)

    async def look(self, _nodes, _report):
        return self.facts

    @asynccontextmanager
    async def reach(self, _cluster):
        yield {}

    def model(self, request):
        return sized(int(request.model))

    def runner(self, name):
        world = self

        class Runner:
            def retire(self):
                known = world.store.get(name)
                world.table.leave(known.serves, name)

        return Runner()

    def offer(self, name, gib, **more):
        request = DeploymentRequest(
            name=name, model=str(gib), cluster=Cluster(nodes=(Node(name="here"),)), context=512, concurrency=1
        )
        self.store.offer(Offered(request=request, **{"min_stay": 10.0, **more}))

    async def step(self, seconds=0.5):
        """Let time pass, and everybody do what there is to do."""
        self.now += seconds
        self.swapper.look(self.store.live())
        for _ in range(30):
            await asyncio.sleep(0)
        for known in self.store.live():
            self.carry_out(known)

    def carry_out(self, known):
        name, public = known.name, known.serves
        if known.desired == "stopped" and known.state != "failed":
            self.store.move(name, "stopping")
            self.table.leave(public, name)
            self.ledger.release(name)
            self.store.move(name, "stopped", holds=())
            self.ended.append((public, self.now))
        elif known.state == "queued":
            self.launches.append((public, self.now))
            placed = place(
                known.request, self.model(known.request), self.facts, "x-1", self.ledger.others(name, public)
            )
            self.ledger.take(name, public, placed.holds)
            self.store.move(name, "launching", holds=placed.holds)
            self.table.enter(public, name, Loading("load", 0.5))
        elif known.state == "launching" and self.now >= known.changed + LOAD:
            if public in self.broken:
                self.ledger.release(name)
                self.store.want(name, "stopped")
                self.store.move(name, "failed", failure=Failure(cause="It broke.", remedy="", code=3), holds=())
                return
            self.ledger.settle(name)
            self.ready_at[public] = self.now
            self.store.move(name, "ready", ready_at=self.now, load_seconds=LOAD)
            replica = Replica(id=name, base_url="http://127.0.0.1:9", served_name=public)
            self.table.enter(public, name, Ready(replica))

    def state(self, name):
        return type(self.table.get(name))

    async def until(self, condition, most=600.0):
        end = self.now + most
        while not condition():
            assert self.now < end, (self.table.states(), self.launches)
            await self.step()


@pytest.fixture
async def world(tmp_path, monkeypatch):
    made = World(tmp_path, monkeypatch, memory=32)
    yield made
    await made.swapper.close()
    made.store.close()


async def test_a_demand_loads_and_the_next_one_takes_its_place_after_its_stay(world):
    world.offer("a", 20)
    world.offer("b", 20)
    await world.step()
    assert (world.state("a"), world.state("b")) == (Unloaded, Unloaded)
    world.table.demand("a")
    await world.until(lambda: world.state("a") is Ready)
    world.table.demand("b")
    await world.step()
    assert world.table.get("b").stage == "a has just been loaded"
    await world.until(lambda: world.state("b") is Ready)
    ((gone, at),) = world.ended
    assert gone == "a"
    assert at >= world.ready_at["a"] + 10.0


async def test_those_who_wait_are_told_how_long_a_model_took_before(world):
    for name in "ab":
        world.offer(name, 20)
    for name in "aba":
        world.table.demand(name)
        await world.until(lambda name=name: world.state(name) is Ready)
    world.table.demand("b")
    await world.step()
    waits = world.table.get("b")
    assert waits.seconds == pytest.approx(10.0 + LOAD, abs=1.0)


async def test_a_failing_load_is_told_and_tried_less_and_less_often(world):
    world.offer("a", 20)
    world.broken.add("a")
    for _ in range(400):  # 200 s of a client that asks twice a second
        if world.state("a") in {Unloaded, Loading}:
            world.table.demand("a")
        await world.step()
    gaps = [later - earlier for (_, earlier), (_, later) in zip(world.launches, world.launches[1:], strict=False)]
    assert 4 <= len(gaps) <= 6
    assert all(later > earlier for earlier, later in itertools.pairwise(gaps))
    world.broken.clear()
    world.table.demand("a")
    await world.until(lambda: world.state("a") is not Failed)
    world.table.demand("a")
    await world.until(lambda: world.state("a") is Ready)


async def test_a_failure_names_its_cause_and_when_to_come_back(world):
    world.offer("a", 20)
    world.broken.add("a")
    world.table.demand("a")
    await world.until(lambda: world.state("a") is Failed)
    assert world.table.get("a") == Failed("It broke.", 5.0)
    await world.step(3.0)
    assert world.table.get("a") == Failed("It broke.", 2.0)


async def test_a_model_too_large_beside_a_pinned_one_is_refused_until_that_is_gone(world):
    world.offer("a", 20, pinned=True)
    world.offer("b", 20)
    await world.until(lambda: world.state("a") is Ready)
    world.table.demand("b")
    await world.until(lambda: world.state("b") is Failed)
    assert "a is pinned." in world.table.get("b").cause
    for _ in range(50):
        world.table.demand("b")
        await world.step()
    assert [name for name, _ in world.launches] == ["a"]
    world.store.withdraw("a")
    world.store.end("a")
    await world.until(lambda: world.state("b") is Unloaded, most=5.0)
    world.table.demand("b")
    await world.until(lambda: world.state("b") is Ready)


async def test_requests_in_flight_hold_a_model_until_they_end(world):
    world.offer("a", 20)
    world.offer("b", 20)
    world.table.demand("a")
    await world.until(lambda: world.state("a") is Ready)
    world.table.began("a")
    world.table.demand("b")
    for _ in range(60):
        world.table.demand("b")
        await world.step()
    assert world.state("a") is Unloaded, "it takes no new request"
    assert world.store.get("a").state == "ready", "it answers the one that it has"
    world.table.ended("a")
    await world.until(lambda: world.state("b") is Ready)


async def test_who_asks_no_more_is_not_waited_for(world):
    world.offer("a", 20)
    world.offer("b", 20)
    world.table.demand("a")
    await world.until(lambda: world.state("a") is Ready)
    world.table.began("a")
    world.table.demand("b")
    world.table.drop_demand("b")
    for _ in range(100):
        await world.step()
    assert world.state("a") is Ready
    assert world.state("b") is Unloaded


async def test_what_is_offered_no_more_is_not_loaded_any_more(world):
    world.offer("a", 20)
    world.table.demand("a")
    await world.step()
    world.store.withdraw("a")
    for _ in range(5):
        await world.step()
    assert world.table.resolve("a") is None or world.store.get("a").state in {"launching", "ready"}


async def test_the_next_head_takes_over_what_is_there(world, tmp_path, monkeypatch):
    world.offer("a", 20)
    world.offer("b", 20, ttl=30.0)
    world.table.demand("b")
    await world.until(lambda: world.state("b") is Ready)
    await world.swapper.close()
    again = World(tmp_path, monkeypatch, memory=32)
    again.now = world.now
    again.ledger.take("b", "b", again.store.get("b").detail.holds, loading=False)
    again.table.enter("b", "b", Ready(Replica(id="b", base_url="http://127.0.0.1:9", served_name="b")))
    again.table.demand("a")
    await again.until(lambda: again.state("a") is Ready)
    assert again.ended[0][0] == "b"
    await again.swapper.close()
    again.store.close()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_is_asked_in_whatever_order_nobody_starves_and_memory_suffices(world, seed):
    chance = random.Random(seed)
    sizes = {"a": 20, "b": 20, "c": 8, "d": 5, "e": 27}
    pinned = chance.choice([None, "d"])
    for name, gib in sizes.items():
        world.offer(name, gib, pinned=name == pinned, ttl=chance.choice([None, 40.0]) if name != pinned else None)
    asked, running, longest = {}, [], 0.0
    for _ in range(600):
        if chance.random() < 0.2:
            asked.setdefault(chance.choice("abcde"), world.now)
        for name in list(asked):
            if world.state(name) is Ready:
                longest = max(longest, world.now - asked.pop(name))
                world.table.began(name)
                running.append((world.now + chance.uniform(0.5, 20.0), name))
            elif world.state(name) is Failed:
                assert pinned, world.table.get(name)
                del asked[name]  # e beside d: refused
            else:
                world.table.demand(name)
        for over, name in [one for one in running if one[0] <= world.now]:
            running.remove((over, name))
            world.table.ended(name)
        before = len(world.ended)
        await world.step()
        for name, _ in world.ended[before:]:
            assert name != pinned
            assert all(used != name for _, used in running), "nobody is cut off"
        held = sum(hold.bytes for name in sizes for hold in world.ledger.holds(name))
        assert held <= 32 * GIB
    assert longest < 300.0
    assert len(world.launches) > 10
