"""`corral` as a person runs it, for each test with a folder of state of its own."""

import signal

import pytest

from corral.engines.llamacpp.versions import build
from corral.engines.vllm.environments import environment
from e2e.program import Corral
from engines.environments import made


@pytest.fixture(scope="session", autouse=True)
def engine_environments():
    """What the lab's machines cannot fetch themselves stands before any test, whichever comes first."""
    made(build("cpu"))
    made(environment("cpu"))


@pytest.fixture(scope="session", autouse=True)
def signals_as_at_a_terminal():
    """Under nohup, or in the background of a script, every program ignores hang-ups or interrupts."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGQUIT: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def corral(tmp_path):
    runner = Corral(tmp_path / "state")
    yield runner
    runner.end()


@pytest.fixture(scope="module")
def module_corral(tmp_path_factory):
    """One for the tests of a module that share a deployment."""
    runner = Corral(tmp_path_factory.mktemp("shared") / "state")
    yield runner
    runner.end()
