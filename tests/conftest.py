"""Fixtures that every room's tests may ask for: the lab."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import settings

from lab import Lab, missing

# The same cases in every run: a red run means a change, not luck. `--hypothesis-profile=explore` looks further.
settings.register_profile("corral", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("corral")


@pytest.fixture(scope="module")
def make_lab() -> Iterator[Callable[..., Lab]]:
    """Make labs as `Lab(...)` does; they are taken away after the module's last test."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Lab(*args, **options))


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """Two machines, h1 and h2."""
    return make_lab(2)
