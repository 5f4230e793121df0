"""The seam against machines of their own: power cuts, cut links, full disks, what is left when Corral dies."""

import asyncio
import signal
import sys
import time

import pytest

from corral.errors import NodeFailed
from corral.hosts import Connection
from corral.hosts.ssh import Ssh
from hosts.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def connection(lab, host) -> Connection:
    return Connection(
        name=host.name, address=host.address, user="root", key=str(lab.key), known_hosts=str(lab.known_hosts)
    )


@pytest.fixture
async def node(lab):
    host = Ssh(connection(lab, lab.hosts[0]))
    yield host
    await host.close()


async def test_each_machine_is_itself(lab):
    names = []
    for machine in lab.hosts:
        host = Ssh(connection(lab, machine))
        names.append((await host.run(["hostname"])).stdout.decode().strip())
        await host.close()
    assert names == ["h1", "h2"]


async def test_nothing_is_left_on_a_machine_after_a_close(lab, node):
    before = lab.hosts[0].snapshot()
    running = asyncio.create_task(node.run(["sh", "-c", "sleep 600 & sleep 600"]))
    await node.put(b"x", "/tmp/own/file")
    await node.run(["rm", "-r", "/tmp/own"])
    await until(lambda: any("sleep" in process.argv for process in lab.hosts[0].processes()))
    await node.close()
    assert (await running).status == -signal.SIGTERM
    await until(lambda: not lab.hosts[0].snapshot() - before)


async def test_a_full_disk_is_told_and_holds_no_half(lab, node):
    lab.hosts[0].run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/mnt"])
    await node.put(b"small", "/mnt/model")
    with pytest.raises(NodeFailed, match=r"h1 could not write /mnt/model: .*No space left on device") as failed:
        await node.put(bytes(3_000_000), "/mnt/model")
    assert "Free space" in failed.value.remedy
    assert (await node.run(["sh", "-c", "ls /mnt; cat /mnt/model"])).stdout == b"model\nsmall"


async def test_what_a_killed_corral_started_is_ended_by_the_machine_itself(lab):
    script = """
import asyncio, sys
from corral.hosts import Connection
from corral.hosts.ssh import Ssh
async def main():
    host = Ssh(Connection("h1", sys.argv[1], user="root", key=sys.argv[2], known_hosts=sys.argv[3]))
    async with host.stream(["sh", "-c", "trap '' TERM HUP; echo up; while :; do sleep 0.1; done"]) as stream:
        async for line in stream:
            print(line, flush=True)
asyncio.run(main())
"""
    machine = lab.hosts[0]
    before = machine.snapshot()
    argv = [sys.executable, "-c", script, machine.address, str(lab.key), str(lab.known_hosts)]
    corral = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert await corral.stdout.readline() == b"b'up'\n"
    assert machine.snapshot() - before
    corral.kill()
    await corral.communicate()
    await until(lambda: not machine.snapshot() - before)


@pytest.mark.slow
async def test_a_machine_that_loses_power_is_noticed_and_found_again(make_lab):
    lab = make_lab(1)
    host = Ssh(connection(lab, lab.hosts[0]))
    running = asyncio.create_task(host.run(["sleep", "600"], timeout=600))
    await until(lambda: any("sleep" in process.argv for process in lab.hosts[0].processes()))
    lab.hosts[0].power_off()
    begun = time.monotonic()
    with pytest.raises(NodeFailed, match="h1 was lost"):
        await running
    assert time.monotonic() - begun < 25  # three requests, five seconds apart, and the end that cannot be asked for
    with pytest.raises(NodeFailed, match=r"h1 \(10\.77\.\d+\.11\) (cannot be reached: no route|did not answer)"):
        await host.run(["true"])
    await asyncio.to_thread(lab.hosts[0].power_on)
    assert (await host.run(["echo", "again"])).stdout == b"again\n"
    await host.close()


async def test_a_link_that_is_cut_for_a_moment_loses_nothing(lab, node):
    running = asyncio.create_task(node.run(["sh", "-c", "sleep 1; echo done"]))
    await asyncio.sleep(0.3)
    lab.hosts[0].link_down("management")
    await asyncio.sleep(1.5)
    lab.hosts[0].link_up("management")
    assert (await running).stdout == b"done\n"
