"""The probe: what it reads in tools' outputs, and that no tool can hang it, flood it or make it fail."""

import ast
import contextlib
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.probes import facts

RECORDED = Path(__file__).parent / "recorded"
GIB = 2**30


def recorded(name):
    return (RECORDED / name).read_text(encoding="utf-8")


def sysfs(tmp_path, files):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(tmp_path)


def test_a_gb10_has_unified_memory_that_nvidia_smi_does_not_know():
    (gpu,) = facts.parse_nvidia(recorded("nvidia-gb10.csv"))
    assert (gpu["name"], gpu["memory"], gpu["unified"]) == ("NVIDIA GB10", None, True)
    assert (gpu["capability"], gpu["power_limit"], gpu["bus"]) == ("12.1", None, "0000000F:01:00.0")


def test_four_v100():
    gpus = facts.parse_nvidia(recorded("nvidia-v100x4.csv"))
    assert [(gpu["memory"], gpu["unified"], gpu["power_limit"]) for gpu in gpus] == [(32 * GIB, False, 300.0)] * 4
    assert len({gpu["uuid"] for gpu in gpus}) == 4


def test_mixed_cards_with_a_warning_among_the_rows():
    gpus = facts.parse_nvidia(recorded("nvidia-3090-4090.csv"))
    assert [gpu["name"] for gpu in gpus] == ["NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090"]
    assert [gpu["memory"] // 2**20 for gpu in gpus] == [24576, 24564]


def test_an_m3_ultra_offers_its_main_memory():
    (gpu,) = facts.parse_apple(recorded("m3ultra.sysctl"), recorded("m3ultra.displays.json"))
    assert gpu == {
        "name": "Apple M3 Ultra",
        "cores": 80,
        "unified": True,
        "memory": 512 * GIB,
        "gpu_limit": 480 * GIB,
    }


def test_a_strix_halo_offers_what_it_may_map_beside_what_is_carved_out(tmp_path):
    root = sysfs(tmp_path, json.loads(recorded("strix-halo.json")))
    ids = tmp_path / "amdgpu.ids"
    ids.write_text("# List of AMDGPU IDs\n1.0.0\n1586,\tC1,\tAMD Radeon 8060S Graphics\n")
    (gpu,) = facts.amd_gpus(root, str(ids))
    assert (gpu["name"], gpu["capability"], gpu["unified"]) == ("AMD Radeon 8060S Graphics", "gfx1151", True)
    assert gpu["memory"] == 120 * GIB + 512 * 2**20


def test_a_separate_amd_card_has_its_own_memory_only(tmp_path):
    files = json.loads(recorded("strix-halo.json"))
    files["class/kfd/kfd/topology/nodes/1/properties"] = "gfx_target_version 90010\ndrm_render_minor 128\n"
    files["class/drm/renderD128/device/mem_info_vram_total"] = str(64 * GIB)
    (gpu,) = facts.amd_gpus(sysfs(tmp_path, files), "/nowhere")
    assert (gpu["capability"], gpu["unified"], gpu["memory"]) == ("gfx90a", False, 64 * GIB)


def test_addresses_by_interface():
    found = facts.parse_ip(recorded("ip-addr.json"))
    assert found["enP7s7"] == ["192.168.1.21/24"]
    assert found["enp1s0f0np0"] == ["10.10.0.21/24"]
    assert found["enp1s0f1np1"] == []


def test_interfaces_of_linux(tmp_path):
    root = sysfs(
        tmp_path,
        {
            "class/net/lo/address": "00:00:00:00:00:00\n",
            "class/net/eth0/address": "02:00:00:00:00:11\n",
            "class/net/eth0/mtu": "9000\n",
            "class/net/eth0/operstate": "up\n",
            "class/net/eth0/speed": "200000\n",
            "class/net/eth0/device/vendor": "0x15b3\n",
            "class/net/wlan0/address": "02:00:00:00:00:12\n",
            "class/net/wlan0/speed": "-1\n",
        },
    )
    eth0, wlan0 = facts.linux_nics(lambda name: [f"addresses of {name}"], root)
    assert (eth0["speed"], eth0["mtu"], eth0["virtual"]) == (200 * 10**9, 9000, False)
    assert eth0["addresses"] == ["addresses of eth0"]
    assert (wlan0["speed"], wlan0["mtu"], wlan0["virtual"]) == (None, None, True)


def test_rdma_ports(tmp_path):
    root = sysfs(
        tmp_path,
        {
            "class/infiniband/rocep1s0f0/ports/1/state": "4: ACTIVE\n",
            "class/infiniband/rocep1s0f0/ports/1/rate": "200 Gb/sec (4X HDR)\n",
            "class/infiniband/rocep1s0f0/ports/1/link_layer": "Ethernet\n",
            "class/infiniband/rocep1s0f0/ports/1/gid_attrs/ndevs/0": "enp1s0f0np0\n",
        },
    )
    (port,) = facts.rdma_ports(root)
    assert (port["name"], port["port"], port["state"]) == ("rocep1s0f0", 1, "active")
    assert (port["rate"], port["link_layer"], port["nic"]) == (200 * 10**9, "Ethernet", "enp1s0f0np0")


def test_interfaces_of_a_mac():
    en0, en3 = facts.parse_ifconfig(recorded("ifconfig.txt"))
    assert (en0["name"], en0["addresses"], en0["speed"]) == ("en0", ["192.168.1.31/24"], 10**10)
    assert (en0["state"], en0["mtu"], en0["mac"]) == ("up", 1500, "02:00:00:00:00:21")
    assert (en3["state"], en3["addresses"], en3["speed"]) == ("down", [], None)


def test_small_readers():
    assert facts.parse_lscpu(recorded("lscpu-gb10.txt")) == "Cortex-X925 + Cortex-A725"
    assert facts.parse_cpu_quota("200000 100000") == 2.0
    assert facts.parse_cpu_quota("max 100000") is None
    assert facts.parse_meminfo("MemTotal:       16 kB\nHugePages_Total:  3\n") == {"MemTotal": 16384}


@given(st.text())
def test_garbage_is_no_machine_and_no_crash(text):
    assert facts.parse_nvidia(text) == []
    facts.parse_lscpu(text), facts.parse_cpu_quota(text), facts.parse_meminfo(text), facts.parse_kfd(text)
    facts.parse_amdgpu_ids(text, "1586", "c1"), facts.parse_sysctl(text), facts.parse_ifconfig(text)
    for parse in (facts.parse_ip, lambda shown: facts.parse_apple("", shown)):
        with contextlib.suppress(facts.NotSeen):
            parse(text)


# -- tools that misbehave ----------------------------------------------------------------------------------------------


@pytest.fixture
def fake_tool(tmp_path, monkeypatch):
    def make(name, script):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setattr(facts, "SEARCHED", f"{tmp_path}:{os.environ['PATH']}")
    return make


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("sleep 60", "took longer than 0.3 s"),
        ("sleep 60 & sleep 60", "took longer than 0.3 s"),
        ("exec head -c 100000000 /dev/zero", "printed without end"),
        ("echo NVIDIA-SMI has failed because it could not communicate; exit 9", "status 9: NVIDIA-SMI has failed"),
        ("kill -SEGV $$", "status -11"),
    ],
)
def test_a_tool_that_hangs_floods_or_fails_is_not_seen(fake_tool, script, why):
    fake_tool("nvidia-smi", script)
    start = time.monotonic()
    with pytest.raises(facts.NotSeen, match=why) as caught:
        facts.tool(["nvidia-smi", "-L"], 0.3 if "sleep" in script else 20.0)
    assert caught.value.command == "nvidia-smi -L"
    assert time.monotonic() - start < 10


def test_a_missing_tool_is_not_seen():
    with pytest.raises(facts.NotSeen, match="no-such-tool is not installed"):
        facts.tool(["no-such-tool"], 1.0)


def test_tools_are_asked_in_the_plain_locale(fake_tool, monkeypatch):
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    fake_tool("say", 'echo "$LC_ALL $LANGUAGE"')
    assert facts.tool(["say"], 5.0) == "C C\n"


def test_one_hanging_part_delays_no_other():
    start = time.monotonic()
    said = facts.look(
        {"slow": lambda _: time.sleep(30), "wrong": lambda _: 1 / 0, "quick": lambda limit: {"limit": limit}}, 0.2
    )
    assert time.monotonic() - start < 5
    assert said["quick"] == {"limit": 0.2}
    assert "took longer" in said["slow"]["not_seen"]
    assert "ZeroDivisionError" in said["wrong"]["not_seen"]


def test_the_whole_probe_on_this_machine_with_a_hung_nvidia_smi(tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nsleep 60\n")
    tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "tr_TR.UTF-8"}
    start = time.monotonic()
    done = subprocess.run([sys.executable, facts.__file__], env=env, capture_output=True, timeout=30, check=True)
    seconds = time.monotonic() - start
    said = json.loads(done.stdout)
    assert said["schema"] == "corral.facts/1"
    assert said["nvidia"]["not_seen"] == "nvidia-smi took longer than 2.5 s"
    assert said["cpu"]["cores"] >= 1
    assert said["memory"]["total"] > said["memory"]["available"] > 0
    assert said["python"]["version"].startswith("3.")
    assert {disk["use"] for disk in said["disks"]} >= {"home", "cache"}
    assert done.stderr == b""
    assert seconds < 4.5  # 3 s for the parts, the rest for Python on a busy machine


def test_it_needs_nothing_but_python_3_8():
    source = inspect.getsource(facts)
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)
