"""What the table derives from replicas, offers and requests."""

import json

import msgspec
import pytest

from corral.gateway.table import Failed, Loading, Offer, Ready, Table, Unloaded, replica_at
from corral.gateway.wire.body import renamed
from gateway.conftest import sample


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def ready(identity="m", name="m"):
    from corral.gateway.desk.values import Replica

    return Ready(Replica(id=identity, base_url="http://127.0.0.1:9", served_name=name))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def table(clock):
    return Table(clock=lambda: 7.9, monotonic=clock)


def test_a_model_is_ready_when_one_replica_is(table):
    table.enter("m", "m", Failed("it died"))
    assert table.get("m") == Failed("it died")
    table.enter("m", "m~2", Loading("load", 0.5))
    assert table.get("m") == Loading("load", 0.5)
    table.enter("m", "m~3", ready("m~3"))
    assert table.ready()["m"].replica.id == "m~3"
    assert [replica.id for replica in table.serving("m")] == ["m~3"]
    assert list(table.replicas("m")) == ["m", "m~2", "m~3"]
    table.leave("m", "m~3")
    assert table.get("m") == Loading("load", 0.5)
    table.leave("m", "m~2")
    table.leave("m", "m")
    assert table.get("m") is None


def test_of_replicas_that_load_the_furthest_is_shown(table):
    table.enter("m", "m", Loading("nodes", None))
    table.enter("m", "m~2", Loading("load", 0.25))
    assert table.get("m") == Loading("load", 0.25)


def test_an_offered_model_is_unloaded_until_a_replica_comes_and_after_it_went(table):
    table.offer([Offer("m", aliases=("small",), fallback=("n",)), Offer("n")])
    assert table.get("m") == Unloaded()
    assert table.fallback("m") == ("n",)
    assert (table.resolve("small"), table.resolve("m"), table.resolve("x")) == ("m", "m", None)
    table.set("m", ready())
    table.remove("m")
    assert table.get("m") == Unloaded()
    table.offer([Offer("n")])
    assert table.get("m") is None
    assert table.resolve("small") is None


def test_what_is_listed_is_what_can_be_asked_for(table):
    table.offer([Offer("offered"), Offer("broken")])
    table.set("broken", Failed("no", 5.0))
    table.set("loads", Loading("load"))
    table.set("m", ready())
    assert list(table.listed()) == ["offered", "broken", "m"]


def test_whoever_subscribed_is_told_of_each_change(table):
    told = []
    end = table.subscribe(told.append)
    table.offer([Offer("m")])
    table.demand("m")
    table.set("m", ready())
    table.remove("m")
    assert told == ["m"] * 4
    end()
    table.demand("m")
    assert told == ["m"] * 4


def test_demand_is_remembered_from_the_first_to_the_last_until_the_model_is_ready(table, clock):
    table.offer([Offer("m")])
    table.demand("m")
    clock.now = 110.0
    table.demand("m")
    assert (table.use("m").asked_first, table.use("m").asked_last) == (100.0, 110.0)
    table.set("m", ready())
    assert table.use("m").asked_first is None
    table.demand("m")
    table.drop_demand("m")
    assert table.use("m").asked_last is None


def test_requests_that_run_or_wait_are_counted_and_their_end_is_the_last_use(table, clock):
    table.set("m", ready())
    table.began("m")
    table.waits("m", 2)
    assert (table.use("m").in_flight, table.use("m").waiting) == (1, 2)
    clock.now = 130.0
    table.ended("m")
    table.waits("m", -2)
    assert (table.use("m").in_flight, table.use("m").waiting, table.use("m").used) == (0, 0, 130.0)
    table.touch("m", 131.0)
    assert table.use("m").used == 131.0
    assert table.use("nobody").used is None


def test_a_request_that_outlives_its_model_still_ends(table):
    table.set("m", ready())
    table.began("m")
    table.remove("m")
    assert table.use("m").in_flight == 1
    table.ended("m")
    assert table.use("m").in_flight == 0


def test_the_only_model_is_meant_by_those_who_name_none(table):
    assert table.only() is None
    table.set("m", ready())
    table.set("f", Failed("no"))
    assert table.only() == "m"
    table.offer([Offer("n")])
    assert table.only() is None


def test_another_model_in_a_body_leaves_all_else_as_it_came():
    body = b'{"temperature": 1.0e-1, "model":"small", "unknown": {"b": [1,  2], "a": 12345678901234567890123}}'
    changed = renamed(body, "m")
    assert json.loads(changed) == json.loads(body) | {"model": "m"}
    assert b"1.0e-1" in changed
    assert b'{"b": [1,  2], "a": 12345678901234567890123}' in changed


async def test_aliases_and_fallbacks_reach_the_model_by_its_own_name(http, gateway, engine):
    gateway.table.offer([Offer("m", aliases=("small",)), Offer("big", fallback=("m",))])
    async with http.post("/v1/chat/completions", data=b'{"model": "small"}') as response:
        assert response.status == 200
    gateway.table.set("big", Failed("it died", 3.0))
    async with http.post("/v1/chat/completions", data=b'{"model": "big"}') as response:
        assert response.status == 200
    assert [json.loads(call.body)["model"] for call in engine.calls] == ["m", "m"]


async def test_an_unloaded_model_is_listed_and_asking_for_it_is_a_demand(http, gateway, monkeypatch):
    gateway.table.offer([Offer("asleep", aliases=("nap",))])
    async with http.get("/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["m", "asleep"]
    async with http.get("/v1/models/nap") as response:
        assert (await response.json())["id"] == "asleep"
    monkeypatch.setattr("corral.gateway.forwarding.WHOLE_PATIENCE", 0.2)
    async with http.post("/v1/chat/completions", data=b'{"model": "nap"}') as response:
        assert response.status == 503
        assert int(response.headers["retry-after"]) > 0
        assert (await response.json())["error"]["code"] == "model_loading"
    assert gateway.table.use("asleep").asked_first is not None


async def test_a_failure_that_passes_tells_when_to_ask_again(http, gateway):
    gateway.table.set("m", Failed("no room", 2.2))
    async with http.post("/v1/chat/completions", data=b'{"model": "m"}') as response:
        assert (response.status, response.headers["retry-after"]) == (503, "3")
        assert "x-should-retry" not in response.headers


async def test_a_replica_that_cannot_be_reached_loses_no_request(http, gateway, engine):
    gone = msgspec.structs.replace(replica_at("http://127.0.0.1:9", "m"), id="m~2")
    gateway.table.enter("m", "m~2", Ready(gone))
    for _ in range(6):
        async with http.post("/v1/chat/completions", data=b'{"model": "m"}') as response:
            assert response.status == 200
    assert sample(gateway, "retries_total", model="m") >= 1
    assert sample(gateway, "upstream_errors_total", replica="m~2", code="unreachable") >= 1
    assert sample(gateway, "in_flight", model="m") == 0
