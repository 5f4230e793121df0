"""Awaits several things at once: work under guards, or all of a kind until the first fails; knows none of them."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


async def race(work: Coroutine[Any, Any, T], *guards: Coroutine[Any, Any, NoReturn]) -> T:
    """Give the work's result; a guard that raises first ends the work and its error is raised instead."""
    task = asyncio.ensure_future(work)
    watching = [asyncio.ensure_future(guard) for guard in guards]
    try:
        await asyncio.wait({task, *watching}, return_when=asyncio.FIRST_COMPLETED)
        for guard in watching:
            if guard.done() and not task.done():
                guard.result()
        return await task
    finally:
        for one in (task, *watching):
            one.cancel()
        await asyncio.gather(task, *watching, return_exceptions=True)


async def together(work: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
    """Give the result of each by name; the first error ends the others and is raised as it is, in no group."""
    tasks = {name: asyncio.ensure_future(one) for name, one in work.items()}
    try:
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return {name: task.result() for name, task in tasks.items()}
