"""The longest context and the most requests that fit where a model runs; knows how memory is counted by asking for it.

More of either never needs less memory, so a bisection finds the largest.
"""

from dataclasses import replace
from typing import Final

from corral.planner.bisection import largest
from corral.planner.memory.case import MemoryCase
from corral.planner.memory.cells import PADDING
from corral.planner.memory.engines import room
from corral.planner.memory.rank import stage_memory

_BLOCK: Final = 16  # tokens: what contexts of vLLM are told in
_MOST_REQUESTS: Final = 4096


def fits(case: MemoryCase, utilization: float | None = None) -> bool:
    """Whether every rank finds room on its own device."""
    return all(
        stage.total <= room(device, case.engine, utilization)
        for stage, device in zip(stage_memory(case), case.devices, strict=True)
    )


def largest_context(case: MemoryCase, *, limit: int | None = None, utilization: float | None = None) -> int:
    """The most tokens that each of the case's requests may have, up to `limit` (else what the model was made for).

    Whole blocks of 16 tokens, with llama.cpp of 256, unless it is the limit itself; 0 when not even one fits.
    """
    step = PADDING if case.family == "llamacpp" else _BLOCK
    most = limit or case.model.context
    if fits(replace(case, context=most), utilization):
        return most
    return step * (
        largest(lambda blocks: fits(replace(case, context=blocks * step), utilization), 1, (most - 1) // step) or 0
    )


def most_requests(case: MemoryCase, *, limit: int = _MOST_REQUESTS, utilization: float | None = None) -> int:
    """The most requests that may fill the case's context at once, up to `limit`; 0 when not even one fits."""
    return largest(lambda count: fits(replace(case, concurrency=count), utilization), 1, limit) or 0
