"""`corral` as a person runs it, for each test with a folder of state of its own."""

import pytest

from e2e.program import Corral


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
