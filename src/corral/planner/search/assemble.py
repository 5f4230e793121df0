"""A weighed trial as the candidate that people read: places, memory by rank, watts; chooses nothing."""

from collections.abc import Sequence

from corral.planner.memory import largest_context, most_requests, room
from corral.planner.plan import Candidate, Power, Rank, Share
from corral.planner.power import cluster_power
from corral.planner.search.engines import launchable
from corral.planner.search.find import Weighed
from corral.planner.search.judge import Asked, memory_case
from corral.planner.search.machines import Fleet
from corral.planner.search.replicas import seats_of_replicas
from corral.planner.values import RankMemory


def candidate(asked: Asked, fleet: Fleet, one: Weighed, switches: float = 0.0) -> Candidate:
    """Everything about one way to run the model."""
    trial, degrees = one.trial, one.trial.degrees
    ranks = _ranks(fleet, one)
    case = memory_case(asked, trial)
    unlaunchable = launchable(trial.offer.engine, trial.shape, degrees)
    links = [spec.id for spec in (trial.split.device_link, trial.split.node_link) if spec is not None]
    return Candidate(
        layout=str(degrees),
        tp=degrees.tp,
        pp=degrees.pp,
        ep=degrees.ep,
        dp=degrees.dp,
        engine=trial.offer.engine,
        weights=trial.offer.weights,
        kv=trial.offer.kv,
        nodes=tuple(dict.fromkeys(rank.node for rank in ranks)),
        devices=degrees.ranks,
        links=tuple(links),
        ranks=ranks,
        layers=trial.layers,
        speed=one.speed,
        longest_context=largest_context(case),
        most_requests=most_requests(case) * degrees.replicas,
        power=power_of(asked, fleet, ranks, one, switches=switches),
        launchable=not unlaunchable,
        notes=tuple(note for note in (*trial.offer.notes, *one.speed.warnings, unlaunchable) if note),
    )


def power_of(
    asked: Asked,
    fleet: Fleet,
    ranks: Sequence[Rank],
    one: Weighed,
    *,
    limit: float | None = None,
    switches: float = 0.0,
) -> Power:
    """Watts of all machines, those without a rank at rest."""
    used: dict[str, int] = {}
    for rank in ranks:
        used[rank.node] = used.get(rank.node, 0) + 1
    return cluster_power(
        fleet.machines,
        used,
        one.speed,
        prompt=asked.work.prompt,
        output=asked.work.output,
        limit=limit if limit is not None else asked.power_limit,
        switches=switches,
    )


def _ranks(fleet: Fleet, one: Weighed) -> tuple[Rank, ...]:
    trial, found = one.trial, list[Rank]()
    holds = [_shares(memory) for memory in one.memory]
    for replica, stages in enumerate(seats_of_replicas(fleet, trial.shape)[: trial.degrees.replicas]):
        for stage, places in enumerate(stages):
            for machine, devices in places:
                usable = room(trial.shape.devices[stage], trial.offer.engine)
                cpu = trial.shape.devices[stage].kind == "cpu"
                first = len(found)
                found += (
                    Rank(
                        rank=first + offset,
                        replica=replica,
                        stage=stage,
                        node=machine.name,
                        device=-1 if cpu else device,
                        holds=holds[stage],
                        usable=usable,
                    )
                    for offset, device in enumerate(devices)
                )
    return tuple(found)


def _shares(memory: RankMemory) -> tuple[Share, ...]:
    parts = (
        ("weights", memory.weights),
        ("kv cache", memory.kv),
        ("state", memory.state),
        ("activations", memory.activations),
        ("engine", memory.framework + memory.graphs + memory.communication),
    )
    return tuple(Share(name=name, bytes=count) for name, count in parts if count)
