"""What can be wrong between the parts of a cluster, each of which is right in itself; knows no file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from corral.catalog.links import is_link, known_links
from corral.catalog.links import link as link_spec
from corral.units import format_rate

if TYPE_CHECKING:
    from corral.cluster.values import Cluster, Link

# Measured rates that pass the rated one by little are a matter of counting; by more, of units.
_OVER_RATE = 1.25
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where: a path of keys and indices from the cluster down."""

    what: str
    place: Place


def find_problem(cluster: "Cluster") -> Problem | None:
    """The first contradiction in the cluster, in the order of the file; None when there is none."""
    for rule in (_duplicates, _addresses, _fabrics, _links, _references, _models, _fallbacks):
        for problem in rule(cluster):
            return problem
    return None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a sentence: `; did you mean "x"?` for the nearest known word, or the known words if few."""
    nearest = get_close_matches(word, known, n=1, cutoff=0.6)
    if nearest:
        return f'; did you mean "{nearest[0]}"?'
    return f"; known are {', '.join(known)}" if len(known) <= 24 else ""


def _duplicates(cluster: "Cluster") -> Iterator[Problem]:
    for section in ("nodes", "storage", "circuits"):
        names = [part.name for part in getattr(cluster, section)]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(f'"{name}" is there twice: {section} need different names', (section, index, "name"))
    for at, node in enumerate(cluster.nodes):
        counted = Counter(nic.name for nic in node.nics)
        for index, nic in enumerate(node.nics):
            if counted[nic.name] > 1:
                yield Problem(f'node "{node.name}" has the NIC "{nic.name}" twice', ("nodes", at, "nics", index))


def _addresses(cluster: "Cluster") -> Iterator[Problem]:
    seen: dict[object, str] = {}
    for index, node in enumerate(cluster.nodes):
        # One address behind two ports or two jump hosts is two machines.
        route = "local" if node.is_local else (node.address, node.ssh and node.ssh.port, node.ssh and node.ssh.jump)
        if route in seen:
            what = f'"{node.address}" is also the address of "{seen[route]}": one machine is one node'
            yield Problem(what, ("nodes", index, "address"))
        seen[route] = node.name


def _fabrics(cluster: "Cluster") -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for index, node in enumerate(cluster.nodes):
        if len(cluster.nodes) > 1 and node.is_local and node.fabric is None:
            what = f'"{node.name}" is this machine and has no "fabric": the other nodes need an address to reach it at'
            yield Problem(what, ("nodes", index))
        if node.fabric is not None and node.fabric in seen:
            what = f'"{node.fabric}" is also the fabric address of "{seen[node.fabric]}"'
            yield Problem(what, ("nodes", index, "fabric"))
        if node.fabric is not None:
            seen[node.fabric] = node.name


def _links(cluster: "Cluster") -> Iterator[Problem]:
    for index, link in enumerate(cluster.links):
        wrong = _wrong_link(link)
        if wrong is not None:
            key, what = wrong
            yield Problem(what, ("links", index, key))


def _wrong_link(link: "Link") -> tuple[str, str] | None:
    if len(set(link.between)) < len(link.between):
        return "between", f"a link joins different nodes, not {', '.join(link.between)}"
    if len(link.between) > 2 and link.switch is None:
        return "between", 'more than two nodes are joined by a switch: name it with "switch"'
    if link.kind is None and link.bandwidth is None:
        return "between", 'a link needs a "kind" or a measured "bandwidth"'
    if link.kind is not None and not is_link(link.kind):
        return "kind", f'"{link.kind}" is no kind of link{did_you_mean(link.kind, known_links())}'
    return _beyond_its_kind(link.kind, link.bandwidth) if link.kind is not None else None


def _beyond_its_kind(kind: str, bandwidth: int | None) -> tuple[str, str] | None:
    """What a link of this kind cannot be: between nodes where it joins devices, or faster than its wire."""
    spec = link_spec(kind)
    if spec.scope != "node":
        return "kind", f'"{kind}" joins devices of one node, not nodes'
    if bandwidth is not None and bandwidth > spec.line_rate * _OVER_RATE:
        what = f'{format_rate(bandwidth)} is more than the {format_rate(spec.line_rate)} that "{kind}" carries'
        return "bandwidth", f"{what}: Gb/s are bits, GB/s bytes"
    return None


def _references(cluster: "Cluster") -> Iterator[Problem]:
    known = [node.name for node in cluster.nodes]
    lists = [("links", "between", [link.between for link in cluster.links])]
    with_nodes = ("storage", "circuits", "models")
    lists += [(part, "nodes", [item.nodes for item in getattr(cluster, part)]) for part in with_nodes]
    for section, key, parts in lists:
        for index, names in enumerate(parts):
            for position, name in enumerate(names):
                if name not in known:
                    what = f'there is no node "{name}"{did_you_mean(name, known)}'
                    yield Problem(what, (section, index, key, position))


def _models(cluster: "Cluster") -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for index, model in enumerate(cluster.models):
        named: list[tuple[str, Place]] = [(model.name, ("name",))]
        named += [(alias, ("aliases", position)) for position, alias in enumerate(model.aliases)]
        for name, key in named:
            if name in seen:
                what = f'"{name}" already names "{seen[name]}": names and aliases of models differ'
                yield Problem(what, ("models", index, *key))
            seen[name] = model.name
        if model.pinned and model.ttl is not None:
            yield Problem('a pinned model stays: it has no "ttl"', ("models", index, "ttl"))
        if model.replicas > 1 and model.layout is not None and "dp" in model.layout:
            what = f'"{model.layout}" says how many replicas there are: leave "replicas" out'
            yield Problem(what, ("models", index, "replicas"))


def _fallbacks(cluster: "Cluster") -> Iterator[Problem]:
    names = {name: model.name for model in cluster.models for name in (model.name, *model.aliases)}
    leads = {model.name: {names.get(name, "") for name in model.fallback} for model in cluster.models}
    for index, model in enumerate(cluster.models):
        for position, name in enumerate(model.fallback):
            place: Place = ("models", index, "fallback", position)
            if name not in names:
                yield Problem(f'there is no model "{name}"{did_you_mean(name, list(names))}', place)
            elif model.name in _reached(leads, names[name]):
                way = f'"{name}"' if names[name] == model.name else f'"{name}", whose fallback leads back here'
                yield Problem(f'"{model.name}" cannot fall back on {way}', place)


def _reached(leads: Mapping[str, set[str]], start: str) -> set[str]:
    """All models that a fallback leads to, one after another, with the one that it starts at."""
    reached, ahead = set[str](), [start]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += leads.get(name, ())
    return reached
