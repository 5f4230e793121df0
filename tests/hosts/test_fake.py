"""The fake machine does what a test says, in the words of the real ones."""

import asyncio

import pytest

from corral.errors import NodeFailed
from corral.hosts import run_script
from corral.hosts.fake import Fake, Reply


async def test_it_answers_by_the_first_words_and_records_what_it_was_asked():
    host = Fake("n1")
    host.on("nvidia-smi", "-*", reply=Reply(stdout=b"GPU 0\n"))
    host.on("cat", reply=lambda call: Reply(stdout=call.input.upper()))
    assert (await host.run(["nvidia-smi", "-L", "-x"])).stdout == b"GPU 0\n"
    assert (await host.run(["cat"], input=b"abc", env={"A": "1"})).stdout == b"ABC"
    assert (await host.run(["other"])).status == 127
    assert [call.argv[0] for call in host.calls] == ["nvidia-smi", "cat", "other"]
    assert (host.calls[1].input, host.calls[1].env) == (b"abc", {"A": "1"})


async def test_the_latest_rule_counts():
    host = Fake()
    host.on(reply=Reply(status=1))
    host.on("true", reply=Reply())
    assert [(await host.run([word])).status for word in ("true", "false")] == [0, 1]


async def test_it_streams_and_breaks_off_halfway():
    host = Fake("n1")
    host.on("watch", reply=Reply(stdout=b"one\ntwo\nhal", breaks=True))
    async with host.stream(["watch"]) as stream:
        told = aiter(stream)
        lines = [await anext(told) for _ in range(3)]
        with pytest.raises(NodeFailed, match="n1 was lost"):
            await anext(told)
    assert lines == [b"one", b"two", b"hal"]


async def test_it_is_slow_and_then_ended():
    host = Fake()
    host.on("slow", reply=Reply(delay=float("inf")))
    with pytest.raises(NodeFailed, match=r"within 0\.05 s"):
        await host.run(["slow"], timeout=0.05)
    assert host.calls[0].ended
    task = asyncio.create_task(host.run(["slow"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_it_is_dead_and_alive_again(tmp_path):
    host = Fake("n1")
    host.on("true", reply=Reply())
    host.dead = True
    for ask in (host.run(["true"]), host.put(b"", "/x"), host.get("/x", tmp_path / "x")):
        with pytest.raises(NodeFailed, match="n1 did not answer"):
            await ask
    host.dead = False
    assert (await host.run(["true"])).status == 0


async def test_it_keeps_files(tmp_path):
    host = Fake()
    told = []
    await host.put(b"data", "/etc/file", mode=0o600, on_bytes=told.append)
    assert told == [4]
    await host.get("/etc/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"data"
    assert host.modes == {"/etc/file": 0o600}
    with pytest.raises(NodeFailed, match="could not read /none"):
        await host.get("/none", tmp_path / "none")


async def test_scripts_find_no_python_on_it_unless_it_is_told():
    host = Fake("n1")
    with pytest.raises(NodeFailed, match="n1 has no python3"):
        await run_script(host, "pass")
    host.on("python3", reply=lambda call: Reply(stdout=call.input))
    assert (await run_script(host, "pass", input=b"rest")).stdout == b"passrest"
