"""The layout that `up` should launch: the fastest for one stream of those that it starts; seats no rank."""

from dataclasses import dataclass
from typing import Final, get_args

from corral.cluster.values import Cluster
from corral.engines.base import Layout
from corral.errors import CorralError
from corral.models.architecture import ModelArchitecture
from corral.models.parameters import TensorClass
from corral.models.values import ModelFacts
from corral.planner.plan import Workload
from corral.planner.search.engines import launchable
from corral.planner.search.find import find
from corral.planner.search.fleet import fleet_of
from corral.planner.search.judge import Asked
from corral.planner.search.offers import offers

CLASSES: Final[tuple[TensorClass, ...]] = get_args(TensorClass)
_PROMPT: Final = 2048  # tokens of a chat's turn, its history with it
_OUTPUT: Final = 512


@dataclass(frozen=True, slots=True)
class Preferred:
    """A layout, the nodes to put it on, in order, and how fast it should be."""

    layout: Layout
    nodes: tuple[str, ...]
    prefill: float  # prompt tokens a second
    decode: float  # tokens a second of one stream


def preferred(
    model: ModelFacts,
    architecture: ModelArchitecture,
    cluster: Cluster,
    *,
    engine: str,
    context: int,
    concurrency: int,
) -> Preferred | None:
    """The best layout of this engine for files that are already chosen.

    None where that cannot be told: nothing fits by the catalog's figures, or a device, a link or the files' format is
    not known.
    """
    output = max(1, min(_OUTPUT, context // 4))
    prompt = max(1, min(_PROMPT, context - output))
    stored = model.weights
    weights: dict[TensorClass, int] = (
        {name: count for name in CLASSES if (count := stored.of(name))} if stored is not None else {}
    )
    asked = Asked(
        model=architecture,
        work=Workload(context=context, prompt=prompt, output=output, concurrency=concurrency),
        weights_bytes=model.weights_bytes,
        weights_by_class=weights,
    )
    try:
        fleet = fleet_of(cluster)
        devices = tuple({id(d.device): d.device for machine in fleet.machines for d in machine.domains}.values())
        tried, _ = offers(architecture, devices, engine=engine, weights=model.quantization)
        found = find(asked, fleet, tried)
    except CorralError:
        return None
    for one in found.weighed:
        shape, degrees = one.trial.shape, one.trial.degrees
        if degrees.dp == 1 and not launchable(engine, shape, degrees):  # a replica; who wants several asks for each
            nodes = tuple(machine.name for machine in shape.machines)
            layout = Layout(tp=degrees.tp, pp=degrees.pp)
            return Preferred(layout, nodes, prefill=one.speed.prefill.value, decode=one.speed.decode.value)
    return None
