"""Ctrl-C and its kin at every stage of `corral up`: the gang stops, the terminal is whole, nothing is left."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import termios
import time

import pytest

pytestmark = pytest.mark.slow
UP = ("up", "--port", 0, "--context", 512)
STAGES = ("queued", "launching", "nodes", "model", "plan", "environment", "model files", "ranks", "load", "ready")


def reach(corral, stage, up):
    """Wait until the launch has come to a stage; what came after it may have begun too."""
    deadline = time.monotonic() + 60
    while not corral.began(stage):
        assert time.monotonic() < deadline, stage
        assert up.poll() is None, up.stderr and up.stderr.read()
        time.sleep(0.002)


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_every_stage_ends_it_all(corral, stage):
    up = corral.popen(*UP)
    reach(corral, stage, up)
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130, told
    assert "default has ended" in told
    assert "Traceback" not in told
    corral.nothing_is_left()
    assert corral.state() == "stopped"


def test_ctrl_c_before_the_head_runs_leaves_nothing(corral):
    up = corral.popen(*UP)
    corral.wait_for(lambda: (corral.home / "corral.db").exists() or up.poll() is not None, "the database")
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=60)
    assert up.returncode == 130, told
    corral.nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", ["model", "ready"])
def test_a_request_to_terminate_and_a_lost_terminal_end_it_too(corral, stage, number):
    up = corral.popen(*UP)
    reach(corral, stage, up)
    up.send_signal(number)
    up.communicate(timeout=60)
    assert up.returncode == 130
    corral.nothing_is_left()


def test_a_second_ctrl_c_leaves_the_rest_to_the_head(corral):
    up = corral.popen(*UP)
    reach(corral, "ready", up)
    (server,) = corral.mains()
    os.kill(server, signal.SIGSTOP)  # so that ending takes its time
    up.send_signal(signal.SIGINT)
    corral.wait_for(lambda: corral.state() == "stopping", "the first Ctrl-C")
    up.send_signal(signal.SIGINT)
    _, told = up.communicate(timeout=5)
    assert up.returncode == 130, told
    assert "goes on ending" in told
    assert "Traceback" not in told
    corral("down")
    corral.nothing_is_left()


def test_a_command_under_nohup_outlives_its_terminal(corral):
    up = corral.popen(*UP, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    reach(corral, "ready", up)
    up.send_signal(signal.SIGHUP)
    up.send_signal(signal.SIGTERM)
    up.communicate(timeout=60)
    assert up.returncode == 130
    corral.nothing_is_left()


class Terminal:
    """A terminal with a person before it."""

    def __init__(self):
        self.person, self.device = pty.openpty()
        self.before = termios.tcgetattr(self.device)
        self.shown = b""

    def start(self, corral, *arguments):
        def take():
            os.setsid()
            termios.tcsetwinsize(0, (40, 120))
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.device)
        corral.env |= {"TERM": "xterm-256color"}
        return corral.popen(*arguments, **streams, start_new_session=False, preexec_fn=take)

    def read(self, until, seconds=60.0):
        """Read what is shown until the condition holds."""
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, self.shown
            if select.select([self.person], [], [], 0.02)[0]:
                self.shown += os.read(self.person, 65536)

    def close(self):
        for end in (self.person, self.device):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def terminal():
    made = Terminal()
    yield made
    made.close()


@pytest.mark.parametrize("stage", ["model", "ready"])
def test_ctrl_c_on_a_terminal_leaves_it_whole(corral, terminal, stage):
    up = terminal.start(corral, *UP)
    terminal.read(lambda: corral.began(stage))
    os.write(terminal.person, b"\x03")
    terminal.read(lambda: up.poll() is not None)
    terminal.read(lambda: b"has ended" in terminal.shown)
    assert up.returncode == 130
    assert terminal.shown.rfind(b"\x1b[?25h") >= terminal.shown.rfind(b"\x1b[?25l"), "the cursor is shown again"
    assert termios.tcgetattr(terminal.device) == terminal.before, "echo and line mode are as they were"
    corral.nothing_is_left()


@pytest.mark.parametrize("stage", ["model", "ready"])
def test_a_terminal_that_is_closed_ends_it_all(corral, terminal, stage):
    up = terminal.start(corral, *UP)
    terminal.read(lambda: corral.began(stage))
    terminal.close()
    up.wait(timeout=60)
    assert up.returncode == 130
    corral.nothing_is_left()
