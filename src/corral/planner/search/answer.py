"""From a model, a cluster and a workload to the plan: the search, and around it watts, breakers, money and words."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.cluster.values import Cluster
from corral.errors import BadInput
from corral.models.parameters import active_parameters, parameters
from corral.planner.circuits import circuit_loads, circuit_warnings, money
from corral.planner.plan import Candidate, CircuitLoad, Plan, Refusal
from corral.planner.search.advice import advice
from corral.planner.search.assemble import candidate
from corral.planner.search.degrees import Degrees
from corral.planner.search.divisible import require_divisible
from corral.planner.search.engines import against
from corral.planner.search.find import Found, Weighed, closest, find
from corral.planner.search.fleet import fleet_of
from corral.planner.search.judge import Asked
from corral.planner.search.machines import Fleet, Machine
from corral.planner.search.offers import Offer, offers, runs_on, stages_allowed
from corral.planner.search.remedies import Want, remedy, sentence
from corral.planner.search.trials import all_shapes
from corral.planner.search.whatif import interconnect, limit_effects, limit_for_circuits
from corral.planner.switches import switch_warnings, switch_watts

_TIGHT: Final = 0.95  # of what may be filled


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user decided; None: the search decides."""

    engine: str | None = None
    weights: str | None = None
    kv: str = "auto"
    layout: Degrees | None = None
    without: Collection[str] = field(default_factory=tuple[str, ...])
    top: int = 6
    why: bool = False  # with what other links and power limits would do


def plan(asked: Asked, cluster: Cluster, wishes: Wishes) -> Plan:
    """The plan. One without candidates says why none fits and what would.

    BadInput for a layout that the model or the cluster does not allow, a format or device that nobody knows, a context
    beyond the model's; DoesNotFit for a cluster without a usable node.
    """
    _require_context(asked)
    fleet = fleet_of(cluster, wishes.without)
    devices = _devices(fleet)
    _require_limit(asked.power_limit, devices)
    tried, refused = offers(asked.model, devices, engine=wishes.engine, weights=wishes.weights, kv=wishes.kv)
    if not tried:
        raise BadInput(*_nothing_to_try(asked, refused))
    if wishes.layout is not None:
        _require_layout(asked, fleet, wishes.layout, tried)
    found = find(asked, fleet, tried, wishes.layout)
    bare = _bare(asked, cluster, fleet, found, refused)
    if not found.weighed:
        want = Want(asked, fleet, tried, wishes.layout)
        missed = closest(asked, fleet, tried, wishes.layout)
        if missed is None:
            return bare.model_copy(update={
                "why_not": f"No engine that was tried can split {asked.model.name} over these machines.",
                "remedy": "Name another engine, or a layout.",
            })  # fmt: skip
        return bare.model_copy(update={"why_not": sentence(want, missed), "remedy": remedy(want, missed)})
    return _answer(asked, cluster, fleet, found, wishes, bare)


def _answer(asked: Asked, cluster: Cluster, fleet: Fleet, found: Found, wishes: Wishes, bare: Plan) -> Plan:
    shown = _shown(found.weighed, wishes.top)
    switches = switch_watts(cluster)
    made = tuple(candidate(asked, fleet, one, switches) for one in shown)
    chosen, best = found.weighed[0], made[0]
    loads = circuit_loads(cluster.circuits, best.power)
    return bare.model_copy(
        update={
            "candidates": made,
            "advice": advice(fleet, found.weighed, chosen, best, _on_one(asked, fleet, chosen, wishes)),
            "warnings": _warnings(asked, cluster, fleet, chosen, best, loads),
            "assumptions": (*fleet.assumptions, *best.power.assumptions, *asked.model.notes),
            "circuits": loads,
            "money": money(cluster.price_per_kwh, best.power),
            "interconnect": interconnect(asked, fleet, chosen) if wishes.why else (),
            "limits": limit_effects(asked, fleet, chosen, best) if wishes.why else (),
        }
    )


def _bare(asked: Asked, cluster: Cluster, fleet: Fleet, found: Found, refused: tuple[Refusal, ...]) -> Plan:
    model = asked.model
    left_out = tuple(Refusal(what=f"node {name}", why=why) for name, why in fleet.left_out)
    return Plan(
        model=model.id,
        title=model.name,
        parameters=sum(parameters(model).values()),
        active=active_parameters(model),
        source=model.source,
        cluster=cluster.name,
        machines=_machines(fleet),
        workload=asked.work,
        candidates=(),
        considered=found.considered,
        fitting=len(found.weighed),
        refused=(*refused, *left_out),
    )


def _shown(weighed: Sequence[Weighed], top: int) -> tuple[Weighed, ...]:
    """The best few, one of each sort: ways that differ in more than how experts or like formats are held."""
    kept: dict[object, Weighed] = {}
    for one in weighed:
        degrees, bits = one.trial.degrees, one.trial.offer.bits
        width = 4 if bits < 7 else 8 if bits < 12 else 16
        kept.setdefault((degrees.tp, degrees.pp, degrees.replicas, one.trial.offer.engine, width), one)
    return tuple(kept.values())[: max(1, top)]


def _on_one(asked: Asked, fleet: Fleet, chosen: Weighed, wishes: Wishes) -> tuple[Weighed, ...]:
    """Ways on a single machine in any usual format, when a format was named and it took several machines."""
    if wishes.weights is None or len(chosen.trial.shape.machines) < 2:
        return ()
    usual, _ = offers(asked.model, _devices(fleet), engine=wishes.engine, weights=None, kv=wishes.kv)
    eight = [offer for offer in usual if 7 <= offer.bits < chosen.trial.offer.bits]
    return tuple(
        one
        for machine in fleet.machines[:1]
        for one in find(
            asked.of_other_files(), replace(fleet, machines=(replace(machine, index=0),), kinds=(0,), links={}), eight
        ).weighed
    )


def _devices(fleet: Fleet) -> tuple[DeviceSpec, ...]:
    return tuple({id(d.device): d.device for machine in fleet.machines for d in machine.domains}.values())


def _machines(fleet: Fleet) -> str:
    """What the cluster is made of: "8 x NVIDIA GB10", "4 nodes with 2 x NVIDIA A100"."""
    sorts = Counter(_inside(machine) for machine in fleet.machines)
    words = [
        sort if count == 1 else f"{count} nodes with {sort}" if not sort.startswith("1 x ") else f"{count} x {sort[4:]}"
        for sort, count in sorts.items()
    ]
    return ", ".join(words)


def _inside(machine: Machine) -> str:
    """The devices of one machine: "4 + 4 x NVIDIA Tesla V100"."""
    counts: dict[str, list[int]] = {}
    for domain in machine.domains:
        counts.setdefault(domain.device.name, []).append(domain.count)
    return ", ".join(f"{' + '.join(map(str, number))} x {name}" for name, number in counts.items())


def _warnings(
    asked: Asked,
    cluster: Cluster,
    fleet: Fleet,
    chosen: Weighed,
    made: Candidate,
    loads: Sequence[CircuitLoad],
) -> tuple[str, ...]:
    said = [*(note for note in asked.notes if note not in asked.model.notes), *made.notes, *switch_warnings(cluster)]
    tight = max(made.ranks, key=lambda rank: rank.total / rank.usable)
    if tight.total > tight.usable * _TIGHT:
        said.append(
            f"Memory is tight: {tight.node} would be filled to {tight.total / tight.usable:.0%}".replace("%", " %")
            + f" of what the engine may take; {made.longest_context} tokens of context are the most."
        )
    breakers = circuit_warnings(loads)
    said += breakers
    if breakers:
        limit = limit_for_circuits(asked, fleet, chosen, made, cluster.circuits)
        said.append(
            f"A power limit of {limit:.0f} W for each device keeps every circuit within bounds."
            if limit
            else "No power limit of the devices keeps the circuits within bounds: divide the nodes over more of them."
        )
    estimated = {
        f"{name} of {device.name}"
        for device in chosen.trial.shape.devices
        for name in device.estimated
        if name in {"bandwidth", "fp16", "bf16"}
    }
    if estimated:
        said.append(f"No source states {', '.join(sorted(estimated))}: estimates were used.")
    return tuple(dict.fromkeys(said))


def _require_context(asked: Asked) -> None:
    work, model = asked.work, asked.model
    if work.context > model.context:
        raise BadInput(
            f"{model.name} was made for contexts of up to {model.context} tokens, {work.context} were asked for.",
            f"Ask for --context {model.context} or less, prompt and output included.",
        )
    if work.prompt + work.output > work.context:
        raise BadInput(
            f"A prompt of {work.prompt} and an output of {work.output} tokens exceed the context of {work.context}.",
            f"Ask for --context {work.prompt + work.output}, or for a shorter prompt or output."
            if work.prompt + work.output <= model.context
            else f"Ask for at most {model.context} tokens of prompt and output together.",
        )


def _require_limit(limit: float | None, devices: Sequence[DeviceSpec]) -> None:
    """Refuse a power limit under the lowest that can be set, or where that is not known under what is drawn at rest."""
    for device in devices:
        floor = device.power_min or device.power_idle or 0.0
        if limit is not None and limit < floor:
            raise BadInput(
                f"A power limit of {limit:.3g} W is under the {floor:.0f} W that {device.name} can be held to.",
                f"Ask for --power-limit {floor:.0f} or more.",
            )


def _require_layout(asked: Asked, fleet: Fleet, layout: Degrees, tried: Sequence[Offer]) -> None:
    """Refuse what the model's heads, the cluster's devices or every engine speaks against."""
    require_divisible(asked.model, layout)
    devices = sum(machine.devices for machine in fleet.machines)
    if layout.ranks > devices:
        raise BadInput(
            f"The layout {layout} needs {layout.ranks} devices; the cluster has {devices}.",
            f"Choose a layout of at most {devices} ranks, or add nodes to the cluster file.",
        )
    found = all_shapes(fleet, asked.model, layout)
    if not found:
        raise BadInput(
            f"The layout {layout} cannot be laid over {_machines(fleet)}: {_why_no_shape(fleet, layout)}.",
            "Choose degrees that fill nodes evenly, such as the devices of one node for tp and the nodes for pp.",
        )
    reasons = [
        against(offer.engine, shape, layout, stages=stages_allowed(offer.engine, asked.model))
        for offer in tried
        for shape in found
        if runs_on(offer, shape.machines)
    ]
    first = next((reason for reason in reasons if reason), None)
    if first is not None and all(reasons):
        raise BadInput(*first)


def _why_no_shape(fleet: Fleet, layout: Degrees) -> str:
    linked = all(fleet.link(one.index, two.index) for one in fleet.machines for two in fleet.machines if one is not two)
    if not linked:
        return "some of its nodes are joined by no link in the cluster file"
    return f"no nodes hold groups of {layout.tp} devices side by side, {layout.pp} times"


def _nothing_to_try(asked: Asked, refused: Sequence[Refusal]) -> tuple[str, str]:
    if refused:
        return (
            f"{asked.model.name} cannot run so: {refused[0].what}: {refused[0].why}",
            "Choose another engine or weight format, or leave --engine and --quant out.",
        )
    return f"There is no engine for {asked.model.name} here.", "Name one with --engine."
