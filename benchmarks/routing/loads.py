"""What people ask: independent questions, agents' sessions, one document, bursts."""

import itertools
import random
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TypeAlias

from engines import BLOCK, Job

Load: TypeAlias = Callable[[random.Random, float], Iterator[Job]]


def text(name: str, tokens: int) -> list[str]:
    """The blocks of a text that is nowhere else."""
    return [f"{name}.{at}" for at in range(tokens // BLOCK)]


def chained(blocks: list[str]) -> tuple[bytes, ...]:
    """A digest of the prompt up to the end of each block."""
    state = blake2b(digest_size=8)
    digests: list[bytes] = []
    for block in blocks:
        state.update(block.encode())
        digests.append(state.digest())
    return tuple(digests)


def poisson(rate: float, mean_prompt: float, shared: int = 2 * BLOCK) -> Load:
    """Independent questions behind one system prompt."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now = 0.0
        for number in itertools.count():
            now += chance.expovariate(rate)
            if now > seconds:
                return
            own = int(min(chance.lognormvariate(0, 0.8) * mean_prompt, 30_000))
            answer = 8 + int(min(chance.expovariate(1 / 200), 1500))
            yield Job(now, shared + own, answer, chained(text("system", shared) + text(f"{number}", own)))

    return load


def agents(rate: float, turns: int = 15, system: int = 16 * BLOCK) -> Load:
    """Sessions that begin as they like; each turn is the whole conversation so far and a tool's result."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now = 0.0
        for number in itertools.count():
            now += chance.expovariate(rate)
            if now > seconds:
                return
            yield session(f"s{number}", now, random.Random(chance.random()), seconds)  # noqa: S311 - a simulation's

    def session(name: str, start: float, chance: random.Random, seconds: float) -> Job:
        blocks = text("system", system)

        def turn(number: int, at: float) -> Job:
            new = BLOCK * (1 + int(min(chance.expovariate(1 / 5), 60)))
            blocks.extend(text(f"{name}.{number}", new))

            def then(now: float) -> Iterator[Job]:
                if number < turns and now < seconds:
                    yield turn(number + 1, now + chance.expovariate(1 / 2.0))

            prompt = len(blocks) * BLOCK + 64
            return Job(at, prompt, 8 + int(chance.expovariate(1 / 100)), chained(blocks), then)

        return turn(1, start)

    return load


def document(rate: float, tokens: int = 80 * BLOCK) -> Load:
    """Everybody asks about the same long document."""
    return poisson(rate, 300, shared=tokens)


def bursts(rate: float, size: float, mean_prompt: float) -> Load:
    """Many questions at the same moment, more than there are slots."""

    def load(chance: random.Random, seconds: float) -> Iterator[Job]:
        now, number = 0.0, 0
        while (now := now + chance.expovariate(rate)) < seconds:
            for number in range(number, number + 1 + int(chance.expovariate(1 / size))):  # noqa: B020 - goes on counting
                own = int(min(chance.lognormvariate(0, 0.8) * mean_prompt, 30_000))
                yield Job(now, own, 8 + int(min(chance.expovariate(1 / 200), 1500)), chained(text(f"{number}", own)))

    return load
