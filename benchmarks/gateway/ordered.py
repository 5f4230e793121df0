"""Streams in which every chunk is numbered: none may be lost, none may come out of its order."""

from typing import Final

from load import streams
from paths import Way
from speed import percentile

_KINDS: Final = {"fast": (200, 500, 0.02), "slow": (2000, 10, 2.0)}  # streams, chunks of each, seconds between


async def check(path: Way) -> dict[str, object]:
    """200 streams at 50 chunks a second for 10 s, then 2,000 at one in 2 s."""
    result: dict[str, object] = {"schema": "corral.bench-gateway-streams/1"}
    for kind, (count, chunks, interval) in _KINDS.items():
        before = path.cpu()
        clients = await streams(path.port, count, chunks, interval)
        cpu = path.cpu() - before
        delays = [delay for client in clients for delay in client.delays]
        result |= {
            f"{kind}_streams": count,
            f"{kind}_chunks": len(delays),
            f"{kind}_lost": count * chunks - sum(len(set(client.numbers)) for client in clients),
            f"{kind}_out_of_order": sum(client.numbers != sorted(client.numbers) for client in clients),
            f"{kind}_twice": sum(len(client.numbers) - len(set(client.numbers)) for client in clients),
            f"{kind}_chunk_seconds_p50": percentile(delays, 0.5),
            f"{kind}_chunk_seconds_p99": percentile(delays, 0.99),
            f"{kind}_cpu_seconds_per_chunk": cpu / len(delays),
        }
    result["rss_mib_peak"] = path.rss("VmHWM")
    result["holds"] = not any(result[f"{kind}_{what}"] for kind in _KINDS for what in ("lost", "out_of_order", "twice"))
    return result
