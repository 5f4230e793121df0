"""Chooses how a model is split over nodes, by memory alone; knows no speed, no link and no process.

The first layout that fits wins, of these: one device of one node; more devices of one node; several nodes, as few as
possible. Tensors are split within a node and layers over nodes, which works on any network; who knows better names the
layout.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from corral.engines.base import Layout, Seat
from corral.errors import BadInput, DoesNotFit
from corral.models.values import ModelFacts
from corral.planner.memory.demand import demand_memory, node_room
from corral.planner.memory.shares import proportional_layers
from corral.planner.remedies import remedy
from corral.planner.seating import Shortage, seats_for, shortage
from corral.planner.splits import candidates, require_divisible
from corral.planner.values import Choice, Demand, NodeResources
from corral.units import format_bytes

_LAYOUT: Final = re.compile(r"tp(?P<tp>\d{1,4})(?:xpp(?P<pp>\d{1,4}))?|pp(?P<only>\d{1,4})")
_REPLICAS: Final = re.compile(r"(?:(?P<split>.+)x)?dp(?P<dp>\d{1,4})")
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


def split_replicas(text: str) -> tuple[str, int]:
    """Take data parallelism out of a layout: "tp2xdp4" is ("tp2", 4), "dp2" is ("", 2); without it the count is 1."""
    matched = _REPLICAS.fullmatch(text.strip().lower())
    if matched is None:
        return text, 1
    if not 1 <= int(matched["dp"]) <= _MAX_RANKS:
        raise BadInput(f"{text[:40]!r} is no layout.", "Write how many replicas: tp2xdp4, for example.")
    return matched["split"] or "", int(matched["dp"])


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
    and what would fit; BadInput refuses a layout that the model's heads or layers do not allow. Where the
    model's anatomy is known memory is counted layer by layer, else from the facts alone.
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
        for layers in _shares(demand, layout, seats, nodes):
            memory = demand_memory(demand, layout, _stage_nodes(layout, seats, nodes), layers)
            short = shortage(seats, memory, nodes, demand.engine)
            if short.missing <= 0:
                return Choice(layout=layout, seats=seats, memory=memory, layers=layers)
            if closest is None or short.missing < closest[1].missing:
                closest = layout, short
    return closest


def _shares(
    demand: Demand, layout: Layout, seats: Sequence[Seat], nodes: Sequence[NodeResources]
) -> Iterator[tuple[int, ...]]:
    """Ways to share out the layers: evenly, and where nodes differ by what each can hold."""
    yield ()
    stages = _stage_nodes(layout, seats, nodes)
    if demand.model.anatomy is None or len({stage.device_memory for stage in stages}) == 1:
        return
    memory = demand_memory(demand, layout, stages)[:: layout.tp]
    rooms = [node_room(stage, demand.engine) - rank.overhead for stage, rank in zip(stages, memory, strict=True)]
    if min(rooms) > 0:
        yield proportional_layers(demand.model.layers, rooms)


def _stage_nodes(layout: Layout, seats: Sequence[Seat], nodes: Sequence[NodeResources]) -> tuple[NodeResources, ...]:
    """The node of each stage; of a stage over several, the one with the least memory."""
    by_name = {node.name: node for node in nodes}
    groups = [seats[stage * layout.tp : (stage + 1) * layout.tp] for stage in range(layout.pp)]
    return tuple(min((by_name[seat.node] for seat in group), key=lambda node: node.device_memory) for group in groups)


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
        f" (weights {format_bytes(needed.weights)}, KV cache {format_bytes(needed.cache)}, engine"
        f" {format_bytes(needed.overhead)}), where {format_bytes(short.available)} can be used:"
        f" {format_bytes(short.missing)} too little."
    )
