"""What a node tells of itself: its interfaces as programs list them, the prints of files."""

import platform
import sys
from pathlib import Path

import pytest

from corral.launcher.onnode import site

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    return (RECORDED / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("address", "interface"),
    [("10.0.0.5", "eth0"), ("192.168.177.11", "enp1s0f1np1"), ("192.168.178.11", "enp1s0f1np1"),
     ("fd00::11", "enp1s0f1np1"), ("fd00:0:0::0011", "enp1s0f1np1"), ("10.0.0.6", ""), ("fd00::12", "")],
)  # fmt: skip
def test_an_address_is_found_in_what_ip_lists(address, interface):
    assert site.interface_in_ip(recorded("ip-addr.json"), address) == interface


@pytest.mark.parametrize(
    ("listing", "address", "interface"),
    [("macos", "192.168.1.20", "en0"), ("macos", "169.254.10.2", "bridge0"), ("macos", "10.9.0.2", "bridge0"),
     ("macos", "fe80::1c2f:aa01:22bb:7c3d", "en0"), ("macos", "fd12::20", "en0"), ("macos", "192.168.1.255", ""),
     ("linux", "192.0.2.2", "eth0"), ("linux", "fd00::2", "eth0"), ("linux", "10.77.1.1", "corral1"),
     ("linux", "192.0.2.255", "")],
)  # fmt: skip
def test_an_address_is_found_in_what_ifconfig_lists(listing, address, interface):
    assert site.interface_in_ifconfig(recorded(f"ifconfig-{listing}.txt"), address) == interface


def test_loopback_host_names_and_zones_need_no_list(monkeypatch):
    monkeypatch.setattr(site, "output_of", lambda *_: pytest.fail("asked a program"))
    loopback = "lo0" if platform.system() == "Darwin" else "lo"
    assert {site.interface_of("127.0.0.1"), site.interface_of("127.8.0.1"), site.interface_of("::1")} == {loopback}
    assert site.interface_of("spark1") == ""
    assert site.interface_of("fe80::1%en7") == "en7"


def test_what_one_program_cannot_tell_the_next_is_asked(monkeypatch):
    said = {"ip": recorded("ip-addr.json"), "ifconfig": recorded("ifconfig-macos.txt")}
    monkeypatch.setattr(site, "output_of", lambda program, *_: said[program])
    assert site.interface_of("fd00::11") == "enp1s0f1np1"
    said["ip"] = "1: lo: not JSON"
    assert site.interface_of("10.9.0.2") == "bridge0"
    said["ip"] = said["ifconfig"] = ""
    monkeypatch.setattr(site, "interface_asked", lambda address: f"asked {address}")
    assert site.interface_of("10.9.0.2") == "asked 10.9.0.2"


def test_a_program_that_fails_or_is_not_there_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert site.output_of("no-such-program") == ""
    program = tmp_path / "ip"
    program.write_text(f"#!{sys.executable}\nimport os, sys\nprint(os.environ['LC_ALL'])\nsys.exit(len(sys.argv) - 1)")
    program.chmod(0o755)
    assert site.output_of("ip") == "C\n"
    assert site.output_of("ip", "addr") == ""
    monkeypatch.setattr(site, "LOOK_SECONDS", 0.05)
    program.write_text("#!/bin/sh\nexec 2>&1; while :; do :; done")
    assert site.output_of("ip") == ""


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 2 * 1024**2, 2 * 1024**2 + 1, 9 * 1024**2 + 7])
def test_a_print_covers_both_ends_and_a_small_file_whole(tmp_path, size):
    path = tmp_path / "weights"
    path.write_bytes(bytes(size))
    before = site.print_of(str(path), size)
    assert before is not None
    assert site.print_of(str(path), size + 1) is None
    for place in {0, size - 1, *(() if size > 2 * 1024**2 else (size // 2, size // 3))} if size else ():
        with path.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        assert site.print_of(str(path), size) != before
        path.write_bytes(bytes(size))
    assert site.print_of(str(path), size) == before


def test_a_layer_changed_in_the_middle_of_a_large_file_changes_its_print(tmp_path):
    path, size = tmp_path / "weights", 32 * 1024**2
    path.write_bytes(bytes(size))
    before = site.print_of(str(path), size)
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"x" * (size // 16))
    assert site.print_of(str(path), size) != before


def test_a_file_that_cannot_be_read_has_no_print(tmp_path):
    assert site.print_of(str(tmp_path / "none"), 0) is None
    assert site.files({"folder": str(tmp_path), "files": [["none", 3]]})["present"] == {}
