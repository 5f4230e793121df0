"""The lab itself: machines that are apart, links that can be cut, and nothing left when it is gone."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab import Lab, net
from lab.host import wait_until
from lab.lab import clear, prefix

pytestmark = pytest.mark.lab

SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 9000), 5) as peer:
    peer.sendall(bytes(int(sys.argv[2])))
"""
TAKE = """
import socket
with socket.create_server(("0.0.0.0", 9000)) as server:
    print("ready", flush=True)
    peer = server.accept()[0]
    total = 0
    while chunk := peer.recv(1 << 16):
        total += len(chunk)
    print(total)
"""


def transfer(lab: Lab, count: int) -> int:
    """Send bytes from h1 to h2 over the fabric; return how many arrived."""
    h1, h2 = lab.hosts
    taker = subprocess.Popen(h2.enter([sys.executable, "-c", TAKE]), stdout=subprocess.PIPE, text=True)
    with taker:
        assert taker.stdout.readline() == "ready\n"
        h1.run([sys.executable, "-c", SEND, h2.fabric, str(count)])
        return int(taker.stdout.readline())


def ssh(lab: Lab, host: int, command: str) -> str:
    argv = ["ssh", "-i", lab.key, "-o", f"UserKnownHostsFile={lab.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
    address = f"root@{lab.hosts[host].address}"
    return subprocess.run([*argv, address, command], capture_output=True, text=True, check=True, timeout=30).stdout


def test_each_machine_answers_ssh_under_its_own_name(lab):
    assert [ssh(lab, i, "hostname").strip() for i in range(2)] == ["h1", "h2"]


def test_machines_share_no_memory_no_temporary_files_no_home_and_no_processes(lab):
    h1, h2 = lab.hosts
    before = h2.snapshot()
    h1.run(["sh", "-c", "touch /dev/shm/mark /tmp/mark ~/mark /run/mark"])
    sleeper = subprocess.Popen(h1.enter(["sleep", "600"]))
    wait_until(lambda: any(p.argv[0] == "sleep" for p in h1.processes()), "the sleeper", 5)
    assert not h2.snapshot() - before
    assert {"/dev/shm/mark", "/tmp/mark", "/run/mark"} <= h1.files()
    assert not Path("/dev/shm/mark").exists()
    sleeper.kill()
    sleeper.wait()


def test_the_cache_of_environments_is_common_and_the_rest_of_it_is_not(make_lab, tmp_path):
    lab = make_lab(2, cache=tmp_path)
    h1, h2 = lab.hosts
    h1.run(["sh", "-c", "touch ~/.cache/corral/envs/common ~/.cache/corral/own"])
    assert h2.run(["sh", "-c", "ls ~/.cache/corral/envs ~/.cache/corral"]).stdout.split().count("common") == 1
    assert (tmp_path / "envs" / "common").exists()
    assert h2.run(["sh", "-c", "test -e ~/.cache/corral/own"], check=False).returncode == 1


def test_a_shared_folder_is_seen_at_the_same_path(make_lab, tmp_path):
    (tmp_path / "model").write_text("weights", encoding="utf-8")
    lab = make_lab(1, share=[tmp_path])
    assert lab.hosts[0].run(["cat", str(tmp_path / "model")]).stdout == "weights"


def test_bytes_cross_the_fabric_and_are_counted(lab):
    h1, h2 = lab.hosts
    before = h2.bytes()
    assert transfer(lab, 3_000_000) == 3_000_000
    assert h2.bytes().rx - before.rx >= 3_000_000
    assert h1.bytes("management").tx < 3_000_000


def test_a_cut_link_carries_nothing_and_an_uncut_one_does(lab):
    h1, h2 = lab.hosts
    h1.link_down()
    with pytest.raises(subprocess.CalledProcessError):
        h1.run([sys.executable, "-c", SEND.replace(", 5)", ", 0.3)"), h2.fabric, "1"])
    assert ssh(lab, 0, "cat /sys/class/net/fab0/carrier").strip() == "0"
    h1.link_up()
    wait_until(lambda: ssh(lab, 0, "cat /sys/class/net/fab0/carrier").strip() == "1", "the carrier", 5)
    assert transfer(lab, 10) == 10


def test_a_limited_link_is_slow_until_the_limit_is_taken_away(lab):
    h1 = lab.hosts[0]
    h1.limit(20_000_000)
    begun = time.monotonic()
    transfer(lab, 1_000_000)  # 0.4 s at this rate, less what the bucket holds
    assert 0.3 < time.monotonic() - begun < 5
    h1.limit(None)
    h1.limit(None)
    assert "tbf" not in net.command("tc", "qdisc", "show", "dev", "fab0", namespace=h1.namespace)


def test_the_mtu_is_the_machine_s_own(lab):
    h1, h2 = lab.hosts
    h1.set_mtu(9000)
    assert [h.run(["cat", "/sys/class/net/fab0/mtu"]).stdout.strip() for h in (h1, h2)] == ["9000", "1500"]
    h1.set_mtu(1500)


def test_a_machine_without_power_is_silent_and_comes_back_with_its_home(make_lab):
    lab = make_lab(1)
    host = lab.hosts[0]
    host.run(["sh", "-c", "touch ~/kept /tmp/lost"])
    host.power_off()
    with pytest.raises(OSError, match=r"timed out|No route"):
        socket.create_connection((host.address, 22), timeout=0.5)
    host.power_on()
    assert host.run(["sh", "-c", "ls ~ /tmp"]).stdout.split().count("kept") == 1
    assert "/tmp/lost" not in host.files()


def test_no_machine_reaches_beyond_the_lab(lab):
    routes = lab.hosts[0].run(["ip", "route"]).stdout
    assert "default" not in routes
    assert len(routes.splitlines()) == 2


def test_nothing_is_left_when_it_is_gone():
    with Lab(1) as lab:
        number, folder = lab.number, lab.folder
        pids = net.processes(lab.hosts[0].namespace)
        assert pids
    assert net.namespaces(prefix(number)) == []
    assert not folder.exists()
    assert not any(Path(f"/proc/{pid}/ns").exists() and Path(f"/proc/{pid}/exe").exists() for pid in pids)
    clear(number)  # again does no harm


def test_what_a_dead_owner_left_is_taken_over():
    script = "import os; from lab import Lab; lab = Lab(1); lab.up(); print(lab.number, flush=True); os._exit(9)"
    tests = str(Path(__file__).resolve().parents[1])
    died = subprocess.run([sys.executable, "-c", script], cwd=tests, capture_output=True, text=True, check=False)
    number = int(died.stdout)
    assert net.namespaces(prefix(number))
    with Lab(1) as lab:
        assert lab.number <= number
        if lab.number < number:  # another lab ended meanwhile
            clear(number)


def test_two_labs_stand_side_by_side(lab, make_lab):
    other = make_lab(1)
    assert other.number != lab.number
    assert other.hosts[0].address != lab.hosts[0].address
