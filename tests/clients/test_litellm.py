"""LiteLLM's library, in an environment of its own."""

import asyncio
import os

import pytest

from clients.environments import HERE, python_environment
from clients.scripted import plays
from corral.gateway.table import Ready, replica_at

pytestmark = pytest.mark.slow
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "127.0.0.1"}


async def test_the_library(engine, gateway, base_url):
    gateway.table.set("e", Ready(replica_at(engine.url, "e", embeddings=True)))
    engine.script = plays
    python = await asyncio.to_thread(python_environment, "litellm")
    process = await asyncio.create_subprocess_exec(
        python, HERE / "python" / "litellm_client.py", env=os.environ | QUIET | {"BASE_URL": base_url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told = (await asyncio.wait_for(process.communicate(), 120))[0].decode()
    assert process.returncode == 0, told
    assert told.count("passed ") == 9
    assert b'"top_k"' in engine.calls[0].body
    assert engine.calls[-1].gone.is_set()  # the one that timed out
