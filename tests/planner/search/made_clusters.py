"""Clusters and questions for the tests of the search, in a few words."""

from corral.cluster.values import Cluster, Device, Link, Node
from corral.models.known import architecture
from corral.planner.plan import Workload
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.judge import Asked
from corral.units import GIB

KINDS = {
    "gb10": {"vendor": "nvidia", "memory": 119 * GIB, "unified": True},
    "rtx3090": {"vendor": "nvidia", "memory": 24 * GIB},
    "rtx4090": {"vendor": "nvidia", "memory": 24 * GIB},
    "v100-sxm2-16": {"vendor": "nvidia", "memory": 16 * GIB},
    "a100-pcie-80": {"vendor": "nvidia", "memory": 80 * GIB},
    "h100-sxm": {"vendor": "nvidia", "memory": 80 * GIB},
    "m4-pro": {"vendor": "apple", "memory": 64 * GIB, "unified": True},
}


def card(name, count=1, **more):
    return Device(name=name, count=count, **{**KINDS[name], **more})


def node(number, *devices, **more):
    return Node(name=f"n{number}", address=f"10.0.0.{number}", devices=devices, **more)


def cluster(*nodes, kind="roce-200g", links=None, **more):
    """Nodes on one switch, unless `links` says otherwise."""
    names = tuple(one.name for one in nodes)
    if links is None:
        links = (Link(between=names, switch="s", kind=kind),) if len(nodes) > 1 else ()
    return Cluster(nodes=nodes, links=tuple(links), **more)


def equal(name, count, *, devices=1, kind="roce-200g", **more):
    return cluster(*(node(n, card(name, devices)) for n in range(1, count + 1)), kind=kind, **more)


def asked(model="llama-3.1-8b", *, context=4096, prompt=1024, output=256, concurrency=1, target="speed", **more):
    work = Workload(context=context, prompt=prompt, output=output, concurrency=concurrency, target=target)
    return Asked(model=architecture(model), work=work, **more)


def planned(where, model="llama-3.1-8b", *, wishes=None, **work):
    return plan(asked(model, **work), where, Wishes(**(wishes or {})))
