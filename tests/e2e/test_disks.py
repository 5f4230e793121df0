"""Disks that are full or may not be written: the cause is named, what serves goes on, nothing is lost or left."""

import contextlib
import os
import signal
import subprocess

import pytest

from e2e.program import Corral, base_url, post

pytestmark = [pytest.mark.slow, pytest.mark.lab]
UP = ("up", "--port", 0, "--context", 512)
QUESTION = b'{"prompt": "Hello", "max_tokens": 4}'


class Disk:
    """A small disk of its own."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)

    def fill(self):
        """Write until no byte more fits."""
        file = os.open(self.path / "filler", os.O_CREAT | os.O_WRONLY)
        with contextlib.suppress(OSError):
            while os.write(file, bytes(4096)):
                pass
        os.close(file)

    def free(self):
        (self.path / "filler").unlink()

    def remount(self, mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", self.path], check=True)

    def close(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "disk", "2m")
    yield made
    made.close()


@pytest.fixture
def corral(disk):
    runner = Corral(disk.path / "state")
    yield runner
    if (disk.path / "filler").exists():
        disk.free()
    runner.end()
    runner.nothing_is_left()


def test_a_full_disk_refuses_a_launch_and_serves_the_next_one_once_it_has_room(corral, disk):
    disk.fill()
    cause, remedy = corral.refused(*UP, status=3)
    assert "full" in cause
    assert "Free space" in remedy
    disk.free()
    corral(*UP, "--detach")


@pytest.mark.parametrize("stage", ["nodes", "model", "ranks"])
def test_a_disk_that_fills_up_during_a_launch_leaves_no_rank(corral, disk, stage):
    up = corral.popen(*UP)
    corral.wait_for(lambda: corral.began(stage), stage)
    disk.fill()
    corral.wait_for(lambda: up.poll() is not None or corral.state() == "ready", "an end")
    served = up.poll() is None  # it had all the room that it needed
    if served:
        disk.free()
        up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == (130 if served else 3), told
    assert "Traceback" not in told
    assert "defect" not in told
    assert served or "full" in told or "space" in told
    assert corral.mains() == []


def test_a_disk_that_fills_up_does_not_end_what_serves(corral, disk):
    told = corral(*UP, "--detach")
    disk.fill()
    server = corral.mains()
    os.kill(corral.head_pid(), 0)
    assert post(f"{base_url(told)}/completions", QUESTION)[0] == 200
    corral("status")
    disk.free()
    assert corral.mains() == server
    corral("down")


def test_a_disk_that_may_not_be_written_is_named(corral, disk):
    disk.remount("ro")
    for command in (UP, ("status",), ("down",)):
        cause, _ = corral.refused(*command, status=3)
        assert "Read-only" in cause
    disk.remount("rw")


def test_a_full_disk_below_the_cache_is_named(disk, tmp_path):
    corral = Corral(tmp_path / "state", HOME=str(disk.path))
    try:
        cause, _ = corral.refused(*UP, status=3)
        assert "space" in cause.lower()
        corral.nothing_is_left()
    finally:
        corral.end()
