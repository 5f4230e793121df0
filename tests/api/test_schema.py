"""The API against its own description, by requests that are made from it: none fails, all answers are as described."""

import asyncio
import threading
import time

import pytest
import schemathesis
import uvloop
from hypothesis import HealthCheck, settings

from corral.api.app import AdminApi
from corral.api.openapi import describe
from corral.api.operations import OPERATIONS
from corral.cluster.values import Cluster, Node
from corral.credentials import new_secret
from corral.gateway.keyring import Keyring
from corral.gateway.server import Gateway
from corral.launcher.keys import KeyWatch
from corral.store.keys import KeyStore
from corral.store.state import Store
from corral.store.usage import Counts, Place, UsageStore, day_of
from corral.store.values import DeploymentRequest

SCHEMA = schemathesis.openapi.from_dict(describe(OPERATIONS))


async def _serve(folder, keyring, told):
    gateway = Gateway(keys=keyring, mounts={"/api": AdminApi(folder).answer})
    await gateway.start(port=0)
    end = asyncio.Event()
    told["end"] = (asyncio.get_running_loop(), end)
    told["url"] = f"http://127.0.0.1:{gateway.port}"
    told["started"].set()
    await end.wait()
    await gateway.stop(grace=0)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server in a thread of its own, with something in its database; its URL and an admin's secret."""
    folder, secret, keyring = tmp_path_factory.mktemp("api"), new_secret(), Keyring()
    with KeyStore(time.time, folder) as keys, UsageStore(folder) as usage, Store(time.time, folder) as state:
        root = keys.create("root", secret, admin=True)
        keys.create("other", new_secret())
        usage.add({Place(day_of(time.time()), root.id, "m"): Counts(1, 0, 0, 5, 0, 5, 0.5)}, {})
        state.request(DeploymentRequest(name="m", cluster=Cluster(nodes=(Node(name="here"),))))
        KeyWatch(keys, keyring).look()  # once: a key that is made, revoked or loses its rights here changes no more
    told = {"started": threading.Event()}
    thread = threading.Thread(target=lambda: uvloop.run(_serve(folder, keyring, told)))
    thread.start()
    assert told["started"].wait(20)
    yield told["url"], secret
    loop, end = told["end"]
    loop.call_soon_threadsafe(end.set)
    thread.join(20)


@SCHEMA.parametrize()
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_every_operation_does_what_its_description_says(case, served):
    url, secret = served
    case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {secret}"})
