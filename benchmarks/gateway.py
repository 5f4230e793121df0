"""What the gateway costs, beside asking the engine directly: delay, CPU time, throughput, memory; knows no real engine.

Three processes: an engine that answers at once (and so hides nothing), the gateway, and this one, which loads both
paths in turn, block by block, so that a machine that is busy or slow meanwhile is so for both. Requests of the delay
test are sent on a schedule and timed from the moment they were due, so that a stall is not hidden by waiting for it.

CPU time is that of the gateway's process as the kernel counts it (/proc/PID/task/*/schedstat, nanoseconds), system
calls included.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, cast

import uvloop
from rich.console import Console
from rich.table import Table as Grid

PROMPT: Final = "word " * 180
REPLY: Final = json.dumps({"id": "c", "object": "chat.completion", "choices": [{"text": "word " * 190}]}).encode()
CHUNK: Final = 'data: {"t": %d, "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": null}]}\n\n'
DONE: Final = b"0\r\n\r\n"
LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
STAMP: Final = re.compile(rb'"t": (\d+)')


# The engine ---------------------------------------------------------------------------------------------------------


class Engine(asyncio.Protocol):
    """Answers a request with 1 KB at once, or with a chunk every `interval` seconds, each stamped when it was sent."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        self.buffer = b""
        stream = json.loads(body).get("stream")
        if stream is None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REPLY)
            self.transport.write(head + REPLY)
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.transport.write(head)
            self.chunk(stream["chunks"], stream["interval"])

    def chunk(self, left: int, interval: float) -> None:
        """Send a chunk, and the next one later."""
        if left == 0:
            self.transport.write(DONE)
            return
        event = (CHUNK % time.monotonic_ns()).encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        asyncio.get_running_loop().call_later(interval, self.chunk, left - 1, interval)


async def engine() -> None:
    """Serve until ended."""
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The gateway --------------------------------------------------------------------------------------------------------


async def gateway(upstream_port: int, *, keep_alive: bool) -> None:
    """Serve until ended."""
    from corral.gateway.server import Gateway  # noqa: PLC0415 - the other processes are to be without it
    from corral.gateway.table import Ready, Upstream  # noqa: PLC0415 - as above

    served = Gateway()
    served.table.set("m", Ready(Upstream(f"http://127.0.0.1:{upstream_port}", "m", keep_alive=keep_alive)))
    await served.start(port=0)
    print(served.port, flush=True)
    await asyncio.Event().wait()


# The load -----------------------------------------------------------------------------------------------------------


class Client(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    def __init__(self) -> None:
        self.delays: list[float] = []  # of each chunk, seconds from being sent to being received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send a request; done when its answer is whole."""
        self.buffer = b""
        self.missing = -1  # bytes of the body; -1: not known yet
        self.transport.write(request)
        self.answered = asyncio.get_running_loop().create_future()
        return self.answered

    def data_received(self, data: bytes) -> None:
        """Look for the end of the answer, and at the stamps of its chunks."""
        now = time.monotonic_ns()
        self.buffer += data
        if self.missing < 0:
            head, end, body = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 200 " not in head[:16]:
                raise SystemExit(self.buffer.decode())
            length = LENGTH.search(head)
            self.missing = int(length[1]) if length else sys.maxsize
            self.buffer = body
        stamps = list(STAMP.finditer(self.buffer)) if self.missing == sys.maxsize else []
        if stamps:
            self.delays += [(now - int(stamp[1])) / 1e9 for stamp in stamps]
            self.buffer = self.buffer[stamps[-1].end() :]
        if len(self.buffer) >= self.missing or (self.missing == sys.maxsize and self.buffer.endswith(DONE)):
            self.answered.set_result(None)


def request(port: int, **fields: object) -> bytes:
    """A chat request of about 1 KB."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROMPT}], **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def connect(port: int, count: int) -> list[Client]:
    """Open connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(count)]


async def at_rate(port: int, seconds: float, rate: float) -> list[float]:
    """Ask `rate` times a second whatever the answers do; seconds from when each was due to its answer."""
    idle = await connect(port, 16)
    opened = list(idle)
    text = request(port)
    delays: list[float] = []

    async def one(due: float) -> None:
        client = idle.pop() if idle else (await connect(port, 1))[0]
        await client.ask(text)
        delays.append(time.monotonic() - due)
        idle.append(client)

    await asyncio.gather(*(client.ask(text) for client in opened))  # warm
    began = time.monotonic() + 0.05
    async with asyncio.TaskGroup() as tasks:
        for number in range(round(seconds * rate)):
            due = began + number / rate
            await asyncio.sleep(due - time.monotonic())
            tasks.create_task(one(due))
    close(opened + idle)
    return delays


async def flat_out(port: int, seconds: float, concurrency: int) -> float:
    """Requests a second with so many always under way."""
    clients = await connect(port, concurrency)
    text = request(port)
    end = time.monotonic() + seconds
    done = 0

    async def one(client: Client) -> None:
        nonlocal done
        while time.monotonic() < end:
            await client.ask(text)
            done += 1

    began = time.monotonic()
    await asyncio.gather(*map(one, clients))
    rate = done / (time.monotonic() - began)
    close(clients)
    return rate


async def streams(port: int, seconds: float, count: int, interval: float) -> list[float]:
    """So many streams at once; the delay of each chunk, seconds."""
    clients = await connect(port, count)
    text = request(port, stream={"chunks": round(seconds / interval), "interval": interval})
    await asyncio.gather(*(client.ask(text) for client in clients))
    close(clients)
    return [delay for client in clients for delay in client.delays]


def close(clients: list[Client]) -> None:
    """Close connections."""
    for client in clients:
        client.transport.close()


# The comparison -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """One quantity on both paths; `ratio` is through / direct."""

    direct: float
    through: float

    @property
    def ratio(self) -> float:
        """How many times the direct path's."""
        return self.through / self.direct


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, seconds."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rss_mib(pid: int, which: str) -> float:
    """Resident memory in MiB: VmRSS now, VmHWM at its peak."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines[which].split()[0]) / 1024


async def in_turn(
    blocks: int, direct: Callable[[], Awaitable[list[float]]], through: Callable[[], Awaitable[list[float]]], pid: int
) -> tuple[list[float], list[float], float]:
    """Run both paths in turn; all values of each, and the gateway's CPU seconds in its own blocks."""
    values: tuple[list[float], list[float]] = ([], [])
    cpu = 0.0
    for _ in range(blocks):
        values[0].extend(await direct())
        before = cpu_seconds(pid)
        values[1].extend(await through())
        cpu += cpu_seconds(pid) - before
    return *values, cpu


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def compare(options: argparse.Namespace, direct: int, through: int, pid: int) -> dict[str, object]:
    """Run the three tests; the result as it is printed by --json."""
    scale, rate = options.scale, options.rate
    idle_rss = rss_mib(pid, "VmRSS")
    await at_rate(through, 0.5, rate)  # so that nothing is measured that is done once only

    async def rates(port: int) -> list[float]:
        return await at_rate(port, scale, rate)

    async def floods(port: int) -> list[float]:
        return [await flat_out(port, 1.5 * scale, options.concurrency)]

    async def flows(port: int) -> list[float]:
        return await streams(port, 3 * scale, options.streams, options.interval)

    slow = await in_turn(8, lambda: rates(direct), lambda: rates(through), pid)
    fast = await in_turn(3, lambda: floods(direct), lambda: floods(through), pid)
    flow = await in_turn(2, lambda: flows(direct), lambda: flows(through), pid)
    answered = sum(fast[1]) * 1.5 * scale
    return {
        "schema": "corral.bench-gateway/1",
        "rate_per_second": rate,
        "concurrency": options.concurrency,
        "keep_alive": not options.no_keep_alive,
        "streams": options.streams,
        "chunk_interval_seconds": options.interval,
        "cpus": os.cpu_count(),
        "requests": len(slow[1]),
        "chunks": len(flow[1]),
        "seconds_p50": asdict(Compared(percentile(slow[0], 0.5), percentile(slow[1], 0.5))),
        "seconds_p99": asdict(Compared(percentile(slow[0], 0.99), percentile(slow[1], 0.99))),
        "chunk_seconds_p50": asdict(Compared(percentile(flow[0], 0.5), percentile(flow[1], 0.5))),
        "chunk_seconds_p99": asdict(Compared(percentile(flow[0], 0.99), percentile(flow[1], 0.99))),
        "requests_per_second": asdict(Compared(statistics.median(fast[0]), statistics.median(fast[1]))),
        "cpu_seconds_per_request": slow[2] / len(slow[1]),
        "cpu_seconds_per_request_flat_out": fast[2] / answered,
        "cpu_seconds_per_chunk": flow[2] / len(flow[1]),
        "rss_mib_idle": idle_rss,
        "rss_mib_peak": rss_mib(pid, "VmHWM"),
    }


def show(result: dict[str, object]) -> None:
    """Print the result as tables."""
    grid = Grid("", "direct", "through", "ratio", "added", title="The gateway beside its engine")
    for key, title in {
        "seconds_p50": f"request, {result['rate_per_second']:g}/s, p50",
        "seconds_p99": "request, p99",
        "chunk_seconds_p50": f"chunk, {result['streams']} streams, p50",
        "chunk_seconds_p99": "chunk, p99",
    }.items():
        pair = Compared(**result[key])  # type: ignore[arg-type] - the values are those of asdict above
        added = f"{(pair.through - pair.direct) * 1e3:.2f} ms"
        grid.add_row(title, f"{pair.direct * 1e3:.2f} ms", f"{pair.through * 1e3:.2f} ms", f"{pair.ratio:.2f}", added)
    pair = Compared(**result["requests_per_second"])  # type: ignore[arg-type] - as above
    title = f"requests/s, {result['concurrency']} at once"
    grid.add_row(title, f"{pair.direct:.0f}", f"{pair.through:.0f}", f"{pair.ratio:.2f}", "")
    for key, title in {
        "cpu_seconds_per_request": "CPU a request",
        "cpu_seconds_per_request_flat_out": "CPU a request, flat out",
        "cpu_seconds_per_chunk": "CPU a chunk",
    }.items():
        grid.add_row(title, "", f"{result[key] * 1e6:.0f} us", "", "")  # type: ignore[operator] - a float
    memory = f"{result['rss_mib_idle']:.0f} MiB, peak {result['rss_mib_peak']:.0f}"
    grid.add_row("memory", "", memory, "", "")
    Console().print(grid)


@contextmanager
def process(*arguments: str):  # noqa: ANN201 - a generator of (pid, port)
    """This file in another process, in one of its other roles; ended with the context."""
    argv = [sys.executable, __file__, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child.pid, int(cast("IO[str]", child.stdout).readline())
        finally:
            child.terminate()


def main() -> None:
    """Be one of the three processes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--scale", type=float, default=1.0, help="length of all blocks; 1: about 45 s in all")
    parser.add_argument("--rate", type=float, default=200, help="requests a second in the delay test")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once in the throughput test")
    parser.add_argument("--streams", type=int, default=32, help="streams at once in the chunk test")
    parser.add_argument("--interval", type=float, default=0.02, help="seconds between a stream's chunks")
    parser.add_argument("--no-keep-alive", action="store_true", help="a connection to the engine for each request")
    parser.add_argument("--role", choices=("engine", "gateway"), help=argparse.SUPPRESS)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        uvloop.run(
            engine() if options.role == "engine" else gateway(options.upstream, keep_alive=not options.no_keep_alive)
        )
        return
    once = ["--no-keep-alive"] if options.no_keep_alive else []
    with ExitStack() as stack:
        _, direct = stack.enter_context(process("--role", "engine"))
        pid, through = stack.enter_context(process("--role", "gateway", "--upstream", str(direct), *once))
        result = uvloop.run(compare(options, direct, through, pid))
    if options.json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        show(result)


if __name__ == "__main__":
    main()
