"""From the models of a cluster file to what is offered and what is launched at once; pure but for looking for files."""

from collections.abc import Sequence
from pathlib import Path

from corral.cluster.served import ServedModel
from corral.cluster.topology import part_of
from corral.cluster.values import Cluster
from corral.models.source import parse_source
from corral.planner.layout import split_replicas
from corral.store.values import DeploymentRequest, Offered


def offered_by(cluster: Cluster, folder: Path) -> tuple[Offered, ...]:
    """What a cluster file offers; paths of models are from `folder`. BadInput when a model can be nothing."""
    names = {name: model.name for model in cluster.models for name in (model.name, *model.aliases)}
    return tuple(_offered(model, cluster, folder, names) for model in cluster.models)


def loaded_at_once(offers: Sequence[Offered]) -> tuple[Offered, ...]:
    """Those that are pinned, and of the others the first, until there are `min_loaded`."""
    chosen = [offer for offer in offers if offer.pinned]
    least = max((offer.min_loaded for offer in offers), default=0)
    chosen += [offer for offer in offers if not offer.pinned][: max(0, least - len(chosen))]
    return tuple(offer for offer in offers if offer in chosen)


def _offered(model: ServedModel, cluster: Cluster, folder: Path, names: dict[str, str]) -> Offered:
    source = parse_source(model.model, folder)
    layout, copies = split_replicas(model.layout or "")
    return Offered(
        request=DeploymentRequest(
            name=model.name,
            model=source.path if source.kind == "local" else model.model,
            cluster=part_of(cluster.machines(), model.nodes),
            engine=model.engine,
            variant=model.executor or "",
            layout=layout or None,
            context=model.context,
            concurrency=model.concurrency,
            dtype=model.dtype,
        ),
        replicas=max(copies, model.replicas),
        aliases=model.aliases,
        fallback=tuple(names[name] for name in model.fallback),
        ttl=model.ttl,
        pinned=model.pinned,
        min_loaded=cluster.residency.min_loaded,
        min_stay=cluster.residency.min_stay,
    )
