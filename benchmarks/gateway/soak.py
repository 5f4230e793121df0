"""Many requests of all kinds, and the gateway's memory meanwhile.

Of ten, one leaves before its answer is complete and one fails, each in one way after another; one is a stream.
"""

import asyncio
import collections
import itertools
import time
from collections.abc import Sequence
from typing import Final

from load import Client, close, connect, request
from paths import Way

# Failures are asked of models of their own, so that the others go on where one is taken out of service.
MODELS: Final = tuple(f"bad{number}" for number in range(4))
FAILURES: Final = ("[status 500]", "[status 429]", "[status 400]", "[die]", "[cut]", "no such model", "no JSON")
LEAVINGS: Final = ("[hang 1]", "[drip 1]", "[answer 1]")
_AT_ONCE: Final = 64
_EARLY: Final = 10_000
_LIMIT_MIB: Final = 5.0
_STREAM: Final = "[stream 5 0.002]"


async def soak(path: Way, total: int) -> dict[str, object]:
    """Send them; memory after the first 10,000 beside that at the end."""
    texts = _texts(path.port)
    numbers = itertools.count()
    ends: collections.Counter[str] = collections.Counter()
    memory: dict[int, float] = {}
    began, before = time.monotonic(), path.cpu()

    async def one_after_another() -> None:
        client = (await connect(path.port, 1))[0]
        while (number := next(numbers)) < total:
            if number % (total // 20 or 1) == 0 or number == _EARLY:
                memory[number] = round(path.rss(), 2)
            client = await _one(path.port, client, number, texts, ends)
        close([client])

    await asyncio.gather(*(one_after_another() for _ in range(_AT_ONCE)))
    memory[total] = round(path.rss(), 2)
    seconds = time.monotonic() - began
    grown = memory[total] - memory.get(_EARLY, memory[0])
    return {
        "schema": "corral.bench-gateway-soak/1",
        "requests": total,
        "ends": dict(ends),
        "requests_per_second": total / seconds,
        "cpu_seconds_per_request": (path.cpu() - before) / total,
        "rss_mib": memory,
        "grown_mib": grown,
        "limit_mib": _LIMIT_MIB,
        "holds": grown <= _LIMIT_MIB,
    }


async def _one(
    port: int, client: Client, number: int, texts: dict[str, bytes], ends: collections.Counter[str]
) -> Client:
    kind, turn = number % 10, number // 10
    if kind == 4:
        left = (await connect(port, 1))[0]
        mark = _turn(LEAVINGS, turn)
        left.ask(texts[mark])
        # Sooner or later, so that all stages of a request are met.
        await (left.began if mark == "[drip 1]" else asyncio.sleep(0.001 * (turn % 5)))
        left.transport.abort()
        ends["left"] += 1
        return client
    mark = _turn(FAILURES, turn) if kind == 7 else _STREAM if kind == 2 else "[answer 0]"
    await client.ask(texts[mark])
    ends[f"{client.status}{'' if client.complete else ' cut'}"] += 1
    if client.transport.is_closing():
        return (await connect(port, 1))[0]
    client.delays.clear()
    client.numbers.clear()
    return client


def _turn(kinds: Sequence[str], turn: int) -> str:
    return kinds[turn % len(kinds)]


def _texts(port: int) -> dict[str, bytes]:
    texts = {mark: request(port, mark, model=MODELS[number % len(MODELS)]) for number, mark in enumerate(FAILURES)}
    texts["[cut]"] = request(port, "[cut]", model=MODELS[0], stream=True)
    texts["no such model"] = request(port, "", model="no such model")
    texts["no JSON"] = request(port).replace(b'{"model"', b'["model"')
    texts |= {mark: request(port, mark) for mark in ("[answer 0]", *LEAVINGS)}
    texts[_STREAM] = request(port, _STREAM, stream=True)
    return texts
