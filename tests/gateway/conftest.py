import asyncio
import time
from collections.abc import Callable

import aiohttp
import openai
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from corral.gateway.front import FrontSettings
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from gateway.fake_engine import FakeEngine

REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def pytest_asyncio_loop_factories():
    """The head runs on uvloop, and so does this."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def engine():
    engine = FakeEngine()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def gateway(engine):
    gateway = Gateway(FrontSettings(body_limit=1_000_000))
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    yield gateway
    await gateway.stop(grace=0)


@pytest.fixture
async def http(gateway):
    async with aiohttp.ClientSession(f"http://127.0.0.1:{gateway.port}") as session:
        yield session


@pytest.fixture
async def client(gateway):
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="sk-client", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def ask(gateway):
    """Post a body to the chat route on a connection of its own; (reader, writer)."""
    writers = []

    async def ask(body=b'{"model": "m"}'):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writers.append(writer)
        writer.write(REQUEST % len(body) + body)
        return reader, writer

    yield ask
    for writer in writers:
        writer.transport.abort()


def sample(gateway, name, **labels):
    """The sum of the samples of this name that have these labels, whatever their others; None: there is none."""
    text = gateway.metrics.exposition(gateway.admission.standing()).decode()
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"corral_gateway_{name}" and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> float:
    """Wait until the condition holds; how long that took, in seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "did not happen in time"
        await asyncio.sleep(0.002)
    return time.monotonic() - began
