"""Waits on conditions with a deadline, for tests; knows no host."""

import asyncio
from collections.abc import Callable
from pathlib import Path

SECONDS = 30.0


async def until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until a condition holds; TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int, seconds: float = SECONDS) -> bool:
    """Wait for the end of a process; False when it goes on."""
    try:
        await until(lambda: not runs(pid), seconds)
    except TimeoutError:
        return False
    return True


async def appeared(path: Path) -> str:
    """Wait until a file holds whole lines, and return them."""
    await until(lambda: path.exists() and path.read_text(encoding="utf-8").endswith("\n"))
    return path.read_text(encoding="utf-8")
