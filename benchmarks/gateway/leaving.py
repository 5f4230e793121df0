"""How soon the engine sees that a client left, and what 10,000 of them leave behind."""

import asyncio
import json
import time
from typing import Final

from load import Client, close, connect, request
from paths import Way, undisturbed
from speed import percentile

NARROW: Final = "narrow"  # a model whose replica takes one request at a time
_EACH: Final = 500
_QUEUED: Final = 50
_AT_ONCE: Final = 50
_MANY: Final = 10_000
_SETTLED_SECONDS: Final = 10.0
_LIMIT_SECONDS: Final = 0.05


async def leave(path: Way, engine: Way) -> dict[str, object]:
    """In the queue, in prefill and in the stream; then very many."""
    with undisturbed([path.pid, engine.pid]) as alone:
        return await _leave(path, engine.port) | {"undisturbed": alone}  # by others


async def _leave(path: Way, engine: int) -> dict[str, object]:
    result: dict[str, object] = {"schema": "corral.bench-gateway-leaving/1", "clients": _EACH}
    waited = await _in_queue(path, engine)
    result |= {"queue_clients": len(waited), "queue_seconds_p50": percentile(waited, 0.5)}
    result["queue_seconds_max"] = max(waited)
    holds = max(waited) <= _LIMIT_SECONDS
    for stage, word in {"prefill": "hang", "stream": "drip"}.items():
        for abruptly in (False, True):
            delays = await _delays(path.port, engine, word, abruptly=abruptly)
            name = f"{stage}_{'reset' if abruptly else 'closed'}_seconds"
            result[f"{name}_p50"] = percentile(delays, 0.5)
            result[f"{name}_p99"] = percentile(delays, 0.99)
            result[f"{name}_max"] = max(delays)
            holds = holds and max(delays) <= _LIMIT_SECONDS
    before = path.sockets()
    for _ in range(_MANY // _AT_ONCE):
        clients = await _begun(path.port, ["0"] * _AT_ONCE, "drip")
        close(clients)
    result |= {"cancelled_streams": _MANY} | await _left_behind(path, engine, before)
    result |= {"limit_seconds": _LIMIT_SECONDS, "holds": holds and not result["engine_connections_left"]}
    return result


async def _in_queue(path: Way, engine: int) -> list[float]:
    """From a client's leaving the queue to the metrics page that no longer counts it; the engine never hears of it."""
    (holder,) = await _begun(path.port, ["holder"], "hang", model=NARROW)
    delays: list[float] = []
    for number in range(_QUEUED):
        (client,) = await _begun(path.port, [f"queued{number}"], "hang", model=NARROW)
        if await _gauge(path, "queued") != 1:
            raise SystemExit("the request does not wait")
        left = time.monotonic()
        client.transport.close()
        while await _gauge(path, "queued"):
            pass
        delays.append(time.monotonic() - left)
    close([holder])
    await asyncio.sleep(0.2)
    seen = json.loads(await _get(engine, "/seen"))
    if set(seen) != {"holder"}:
        raise SystemExit(f"the engine saw {sorted(seen)}")
    return delays


async def _gauge(path: Way, name: str) -> float:
    """A gauge of the gateway's, over all models."""
    lines = (await _get(path.port, "/metrics")).decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"corral_gateway_{name}{{"))


async def _delays(port: int, engine: int, word: str, *, abruptly: bool) -> list[float]:
    times: dict[str, int] = {}
    seen: dict[str, int] = {}
    for start in range(1, _EACH, _AT_ONCE):
        names = [str(number) for number in range(start, start + _AT_ONCE)]
        for name, client in zip(names, await _begun(port, names, word), strict=True):
            await asyncio.sleep(0.002)  # one at a time: else the last would wait for the others here
            times[name] = time.monotonic_ns()
            if abruptly:
                client.transport.abort()
            else:
                client.transport.close()
        deadline = time.monotonic() + _SETTLED_SECONDS
        while not set(names) <= set(seen):
            if time.monotonic() > deadline:
                raise SystemExit(f"the engine did not see {len(set(names) - set(seen))} of {len(names)} leave")
            await asyncio.sleep(0.05)
            seen |= json.loads(await _get(engine, "/seen"))
    return [(seen[name] - times[name]) / 1e9 for name in times]


async def _begun(port: int, names: list[str], word: str, model: str = "m") -> list[Client]:
    clients = await connect(port, len(names))
    for name, client in zip(names, clients, strict=True):
        client.ask(request(port, f"[{word} {name}]", stream=word == "drip", model=model))
    if word == "drip":
        await asyncio.gather(*(client.began for client in clients))
    else:
        await asyncio.sleep(0.1)  # until all have reached the engine, or its queue
    return clients


async def _left_behind(path: Way, engine: int, sockets: int) -> dict[str, object]:
    """Wait until all is as before, for some seconds."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while True:
        opened = int(await _get(engine, "/open")) - 1  # the one that asks
        flying = await _gauge(path, "in_flight")
        more = path.sockets() - sockets
        if (opened == 0 and more <= 0 and flying == 0) or time.monotonic() > deadline:
            return {"engine_connections_left": opened, "gateway_sockets_left": more, "in_flight_left": flying}
        await asyncio.sleep(0.2)


async def _get(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return body
