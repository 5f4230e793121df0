"""The gateway in this process, before an engine whose every byte is scripted."""

import pytest

from gateway import conftest as gateways

pytest_asyncio_loop_factories = gateways.pytest_asyncio_loop_factories
engine = gateways.engine
gateway = gateways.gateway
client = gateways.client


@pytest.fixture
def base_url(gateway):
    return f"http://127.0.0.1:{gateway.port}/v1"
