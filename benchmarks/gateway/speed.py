"""Delay, throughput and CPU time of each path to the engine, block by block in turn.

So a machine that is busy or slow meanwhile is so for all of them. Of the delays all blocks' are taken together; of
what is one figure a block, the median.
"""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from load import at_rate, flat_out, streams
from paths import Way, undisturbed

LIMITS: Final = (  # (key, what, limit, factor to the unit, unit, whether it is an upper bound)
    ("added_seconds_p50", "added delay, p50", 0.3, 1e3, "ms"),
    ("added_seconds_p99", "added delay, p99", 2.0, 1e3, "ms"),
    ("cpu_seconds_per_request_flat_out", "CPU a request", 170, 1e6, "us"),
    ("cpu_seconds_per_chunk", "CPU a chunk", 40, 1e6, "us"),
)
LITELLM_TIMES: Final = 10
NGINX_TIMES: Final = 5


@dataclass
class Blocks:
    """What was measured of one path."""

    rates: list[float] = field(default_factory=list[float])
    cpu_flat: list[float] = field(default_factory=list[float])
    delays: list[float] = field(default_factory=list[float])
    cpu_at_rate: list[float] = field(default_factory=list[float])
    chunk_delays: list[float] = field(default_factory=list[float])
    cpu_chunk: list[float] = field(default_factory=list[float])


@dataclass(frozen=True)
class Shape:
    """How much is asked of each path."""

    scale: float  # of the length of all blocks
    rate: float  # requests a second in the delay test
    concurrency: int
    streams: int
    interval: float  # seconds between a stream's chunks


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


async def compare(paths: list[Way], engine: int, shape: Shape) -> dict[str, object]:
    """Run the three tests over all paths; the result as --json prints it. `engine`: its process."""
    idle = {path.name: path.rss() for path in paths if path.pid}
    blocks = {path.name: Blocks() for path in paths}
    for path in paths:
        await flat_out(path.port, 0.3, 8)  # so that nothing is measured that is done once only
    for path in paths * 3:
        await _flat_out(path, blocks[path.name], shape)
    # A path that cannot carry the rate would only show a queue that grows.
    able = [path for path in paths if statistics.median(blocks[path.name].rates) > 1.3 * shape.rate]
    with undisturbed([engine, *(path.pid for path in able if path.pid)]) as alone:
        for path in able * 8:
            await _at_rate(path, blocks[path.name], shape)
        for path in [path for path in able if path.name != "bare"] * 2:
            await _streams(path, blocks[path.name], shape)
    for path in [path for path in paths if path not in able]:
        await _streams(path, blocks[path.name], shape)
    figures = {path.name: _figures(blocks[path.name]) for path in paths}
    for path in paths:
        if path.pid:
            figures[path.name] |= {"rss_mib_idle": idle[path.name], "rss_mib_peak": path.rss("VmHWM")}
    _add_differences(figures)
    return {
        "schema": "corral.bench-gateway/2",
        "rate_per_second": shape.rate,
        "concurrency": shape.concurrency,
        "streams": shape.streams,
        "chunk_interval_seconds": shape.interval,
        "cpus": os.cpu_count(),
        "undisturbed": alone,  # by others in the tests of delay and chunks
        "load_average": os.getloadavg()[0],  # of the last minute; what else runs here is in all figures
        "paths": figures,
        "targets": _targets(figures),
    }


async def _flat_out(path: Way, into: Blocks, shape: Shape) -> None:
    before = path.cpu()
    done, seconds = await flat_out(path.port, 1.5 * shape.scale, shape.concurrency)
    into.rates.append(done / seconds)
    into.cpu_flat.append((path.cpu() - before) / (done + shape.concurrency))


async def _at_rate(path: Way, into: Blocks, shape: Shape) -> None:
    before = path.cpu()
    delays = await at_rate(path.port, shape.scale, shape.rate)
    into.delays += delays
    into.cpu_at_rate.append((path.cpu() - before) / len(delays))


async def _streams(path: Way, into: Blocks, shape: Shape) -> None:
    before = path.cpu()
    chunks = round(3 * shape.scale / shape.interval)
    clients = await streams(path.port, shape.streams, chunks, shape.interval)
    delays = [delay for client in clients for delay in client.delays]
    into.chunk_delays += delays
    into.cpu_chunk.append((path.cpu() - before) / len(delays))


def _figures(blocks: Blocks) -> dict[str, float]:
    figures = {
        "requests_per_second": statistics.median(blocks.rates),
        "cpu_seconds_per_request_flat_out": statistics.median(blocks.cpu_flat),
    }
    if blocks.delays:
        figures |= {
            "requests": len(blocks.delays),
            "seconds_p50": percentile(blocks.delays, 0.5),
            "seconds_p99": percentile(blocks.delays, 0.99),
            "cpu_seconds_per_request": statistics.median(blocks.cpu_at_rate),
        }
    if blocks.chunk_delays:
        figures |= {
            "chunks": len(blocks.chunk_delays),
            "chunk_seconds_p50": percentile(blocks.chunk_delays, 0.5),
            "chunk_seconds_p99": percentile(blocks.chunk_delays, 0.99),
            "cpu_seconds_per_chunk": statistics.median(blocks.cpu_chunk),
        }
    return figures


def _add_differences(figures: dict[str, dict[str, float]]) -> None:
    direct = figures["direct"]
    for path in figures.values():
        for key in ("seconds_p50", "seconds_p99", "chunk_seconds_p50", "chunk_seconds_p99"):
            if key in path:
                path[f"added_{key}"] = path[key] - direct[key]


def _targets(figures: dict[str, dict[str, float]]) -> list[dict[str, object]]:
    corral = figures["corral"]
    targets: list[dict[str, object]] = [
        {"what": what, "value": corral[key] * factor, "at_most": limit, "unit": unit, "holds": value <= limit}
        for key, what, limit, factor, unit in LIMITS
        if (value := corral[key] * factor) is not None
    ]
    if litellm := figures.get("litellm"):
        times = corral["requests_per_second"] / litellm["requests_per_second"]
        what = "requests a second beside LiteLLM's"
        targets.append(
            {"what": what, "value": times, "at_least": LITELLM_TIMES, "unit": "times", "holds": times >= LITELLM_TIMES}
        )
    if nginx := figures.get("nginx"):
        for key, what in {
            "cpu_seconds_per_request_flat_out": "CPU a request beside nginx'",
            "cpu_seconds_per_request": "CPU a request beside nginx', at the rate",
            "cpu_seconds_per_chunk": "CPU a chunk beside nginx'",
        }.items():
            times = corral[key] / nginx[key]
            targets.append(
                {"what": what, "value": times, "at_most": NGINX_TIMES, "unit": "times", "holds": times <= NGINX_TIMES}
            )
    return targets
