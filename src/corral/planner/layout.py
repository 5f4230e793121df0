"""Chooses how a model is split over nodes, by memory alone; knows no speed, no link and no process.

The first layout that fits wins, of these: one device of one node; more devices of one node; several nodes, as few as
possible. Tensors are split within a node and layers over nodes, which works on any network; who knows better names the
layout.
"""

import re
from collections.abc import Sequence
from typing import Final

from corral.engines.base import Layout
from corral.errors import BadInput, DoesNotFit
from corral.models.values import ModelFacts
from corral.planner.memory.facts import facts_memory
from corral.planner.remedies import remedy
from corral.planner.seating import Shortage, seats_for, shortage
from corral.planner.splits import candidates, require_divisible
from corral.planner.values import Choice, Demand, NodeResources
from corral.units import format_bytes

_LAYOUT: Final = re.compile(r"tp(?P<tp>\d{1,4})(?:xpp(?P<pp>\d{1,4}))?|pp(?P<only>\d{1,4})")
_MAX_RANKS: Final = 1024


def parse_layout(text: str) -> Layout:
    """Read "tp2", "pp2" or "tp4xpp2"; BadInput says what is expected."""
    matched = _LAYOUT.fullmatch(text.strip().lower())
    tp, pp = (int(matched["tp"] or 1), int(matched["pp"] or matched["only"] or 1)) if matched else (0, 0)
    if not 1 <= tp * pp <= _MAX_RANKS:
        raise BadInput(
            f"{text[:40]!r} is no layout.", "Write tensor and pipeline degrees: tp2, pp2 or tp4xpp2, for example."
        )
    return Layout(tp=tp, pp=pp)


def choose(
    model: ModelFacts,
    nodes: Sequence[NodeResources],
    *,
    engine: str,
    layout: Layout | None = None,
    context: int,
    concurrency: int,
    dtype: str | None = None,
) -> Choice:
    """Seats for the wanted layout, or for the first that fits.

    `context` is in tokens, `concurrency` in requests that each may fill it. DoesNotFit says by how much it does not,
    and what would fit; BadInput refuses a layout that the model's heads or layers do not allow.
    """
    if not nodes:
        raise BadInput("The cluster has no nodes.", "Add one to the cluster file, or leave the file out.")
    if layout is not None:
        require_divisible(model, layout)
    demand = Demand(
        model=model,
        nodes=tuple(nodes),
        engine=engine,
        layout=layout,
        context=context,
        concurrency=concurrency,
        dtype=dtype,
    )
    found = _best(demand)
    if isinstance(found, Choice):
        return found
    if found is None:
        raise _too_few_devices(demand)
    raise DoesNotFit(_sentence(model, *found), remedy(demand, _fits, found[1]))


def _best(demand: Demand) -> Choice | tuple[Layout, Shortage] | None:
    """The first choice that fits, else the layout that comes closest, else (too few devices) nothing."""
    closest: tuple[Layout, Shortage] | None = None
    for layout, nodes in candidates(demand):
        seats = seats_for(layout, nodes)
        if seats is None:
            continue
        memory = facts_memory(
            demand.model,
            layout,
            engine=demand.engine,
            accelerator=nodes[0].accelerator,
            context=demand.context,
            concurrency=demand.concurrency,
            dtype=demand.dtype,
        )
        short = shortage(seats, memory, nodes, demand.engine)
        if short.missing <= 0:
            return Choice(layout=layout, seats=seats, memory=memory)
        if closest is None or short.missing < closest[1].missing:
            closest = layout, short
    return closest


def _fits(demand: Demand) -> bool:
    return isinstance(_best(demand), Choice)


def _too_few_devices(demand: Demand) -> DoesNotFit:
    layout, devices = demand.layout or Layout(), sum(node.devices for node in demand.nodes)
    return DoesNotFit(
        f"The layout {layout} needs {layout.ranks} devices; the cluster has {devices}.",
        f"Choose a layout of at most {devices} ranks, or add nodes to the cluster file.",
    )


def _sentence(model: ModelFacts, layout: Layout, short: Shortage) -> str:
    needed = short.needed
    split = "on one device" if layout.ranks == 1 else f"split {layout}"
    return (
        f"{model.name} does not fit: {split} it needs {format_bytes(needed.total)} on {short.node}"
        f" (weights {format_bytes(needed.weights)}, KV cache {format_bytes(needed.kv)}, engine"
        f" {format_bytes(needed.overhead)}), where {format_bytes(short.available)} can be used:"
        f" {format_bytes(short.missing)} too little."
    )
