"""The switches that a cluster file names and the catalog knows: their watts, and whether their ports suffice."""

from collections.abc import Iterator

from corral.catalog.switches import SwitchSpec, switch
from corral.cluster.values import Cluster, Link
from corral.errors import BadInput
from corral.planner.search.wires import link_spec
from corral.units import format_rate


def switch_watts(cluster: Cluster) -> float:
    """Watts of all known switches at their highest; each counts once, however many links it carries."""
    return sum(spec.power_max or 0.0 for _, spec in _known(cluster))


def switch_warnings(cluster: Cluster) -> tuple[str, ...]:
    """A sentence for each switch that has too few ports of the rate that the file says its nodes have."""
    said: list[str] = []
    for link, spec in _known(cluster):
        rate = link_spec(link).line_rate
        room = spec.nodes_at(rate)
        if room < len(link.between):
            said.append(
                f"The {spec.name} joins {room} node{'s' if room != 1 else ''} at {format_rate(rate)}; the cluster file"
                f" joins {len(link.between)} by it."
            )
    return tuple(said)


def _known(cluster: Cluster) -> Iterator[tuple[Link, SwitchSpec]]:
    seen: set[str] = set()
    for link in cluster.links:
        if link.switch is None or link.switch in seen:
            continue
        seen.add(link.switch)
        try:
            yield link, switch(link.switch)
        except BadInput:  # a name that the catalog does not have: somebody's own word for it
            continue
