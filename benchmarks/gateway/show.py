"""The results as tables."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_ROWS: Final = (  # (key, title with the result's own fields, factor, unit, decimals)
    ("seconds_p50", "request, {rate_per_second:g}/s, p50", 1e3, "ms", 2),
    ("added_seconds_p50", "  added", 1e3, "ms", 2),
    ("seconds_p99", "request, p99", 1e3, "ms", 2),
    ("added_seconds_p99", "  added", 1e3, "ms", 2),
    ("chunk_seconds_p50", "chunk, {streams} streams, p50", 1e3, "ms", 2),
    ("added_chunk_seconds_p50", "  added", 1e3, "ms", 2),
    ("chunk_seconds_p99", "chunk, p99", 1e3, "ms", 2),
    ("requests_per_second", "requests/s, {concurrency} at once", 1, "", 0),
    ("cpu_seconds_per_request_flat_out", "CPU a request, flat out", 1e6, "us", 0),
    ("cpu_seconds_per_request", "CPU a request, {rate_per_second:g}/s", 1e6, "us", 0),
    ("cpu_seconds_per_chunk", "CPU a chunk", 1e6, "us", 0),
    ("rss_mib_peak", "memory, peak", 1, "MiB", 0),
)

_TITLE: Final = "The ways to one engine, side by side ({cpus} cores, load {load_average:.1f})"


def speed(result: Mapping[str, Any]) -> None:
    """Print the comparison and its targets."""
    paths = result["paths"]
    grid = Table("", *paths, title=_TITLE.format(**result))
    for key, title, factor, unit, decimals in _ROWS:
        cells = [f"{path[key] * factor:.{decimals}f} {unit}" if path.get(key) else "" for path in paths.values()]
        grid.add_row(title.format(**result), *cells)
    Console().print(grid)
    grid = Table("target", "measured", "limit", "holds", title="What it is to be")
    for target in result["targets"]:
        limit = f"<= {target['at_most']:g}" if "at_most" in target else f">= {target['at_least']:g}"
        value = f"{target['value']:.2f} {target['unit']}"
        grid.add_row(target["what"], value, limit, "yes" if target["holds"] else "NO")
    Console().print(grid)


def facts(title: str, result: Mapping[str, Any]) -> None:
    """Print one result's fields."""
    grid = Table("", "", title=title, show_header=False)
    for key, value in result.items():
        grid.add_row(key.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(grid)
