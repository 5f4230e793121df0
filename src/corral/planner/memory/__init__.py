"""Bytes by rank for a model on a layout: weights, caches, the engine's own; knows no node and no process."""

from corral.planner.memory.case import MemoryCase
from corral.planner.memory.engines import room, shown
from corral.planner.memory.limits import fits, largest_context, most_requests
from corral.planner.memory.rank import rank_memory, stage_memory
from corral.planner.memory.shares import proportional_layers, stage_layers

__all__ = [
    "MemoryCase",
    "fits",
    "largest_context",
    "most_requests",
    "proportional_layers",
    "rank_memory",
    "room",
    "shown",
    "stage_layers",
    "stage_memory",
]
