"""Hypothesis strategies for clusters: any that the values allow and that a file must carry."""

from hypothesis import strategies as st

from corral.catalog.links import known_links, link
from corral.cluster.endpoint import EndpointSettings
from corral.cluster.served import Residency, ServedModel
from corral.cluster.values import (
    Circuit,
    Cluster,
    Cpu,
    Device,
    Disk,
    EngineSetting,
    Link,
    Nic,
    Node,
    Price,
    Ssh,
    Storage,
)

NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=30)
BYTES = st.integers(0, 2**60)
MONEY = st.floats(0, 1e6)
CURRENCIES = st.sampled_from(["USD", "EUR"])
RATES = st.integers(1, 2**60)
WIRES = [spec for spec in map(link, known_links()) if spec.scope == "node"]


def positive(most, least=1e-3):
    return st.floats(least, most)


def optional(strategy):
    return st.none() | strategy


def several(strategy, key=None):
    return st.lists(strategy, max_size=3, unique_by=key).map(tuple)


SSH = st.builds(
    Ssh,
    user=optional(TEXTS),
    port=optional(st.integers(1, 65535)),
    key=optional(TEXTS),
    known_hosts=optional(TEXTS),
    jump=optional(TEXTS),
)  # fmt: skip
DEVICES = st.builds(
    Device, name=TEXTS, vendor=st.sampled_from(["nvidia", "amd", "apple", "intel"]),
    count=st.integers(1, 16), memory=BYTES,
    unified=st.booleans(), power_limit=optional(positive(1e6)), link=optional(TEXTS), capability=optional(TEXTS),
    driver=optional(TEXTS), bandwidth=optional(RATES), power_idle=optional(positive(1e6)),
    flops=st.dictionaries(st.sampled_from(["fp16", "bf16", "int8"]), positive(1e21, 1e6), max_size=2),
)  # fmt: skip
NICS = st.builds(
    Nic, name=TEXTS, addresses=several(TEXTS), speed=optional(RATES), mtu=optional(st.integers(68, 9000)),
    mac=optional(TEXTS),
    driver=optional(TEXTS), rdma=optional(TEXTS),
)  # fmt: skip
NODES = st.builds(
    Node, name=NAMES, address=TEXTS.map(lambda text: f"a{text}"), fabric=TEXTS, ssh=st.none() | SSH,
    cpu=optional(st.builds(Cpu, model=TEXTS, cores=st.integers(1, 512), architecture=TEXTS, bandwidth=optional(RATES))),
    memory=optional(BYTES), power_base=optional(positive(1e6)),
    devices=several(DEVICES), nics=several(NICS, lambda nic: nic.name),
    disks=several(st.builds(Disk, path=TEXTS, size=optional(BYTES), free=optional(BYTES))), python=optional(TEXTS),
    runtime=st.sampled_from([None, "podman", "docker"]), cache=optional(TEXTS),
    engines=st.dictionaries(NAMES, st.builds(EngineSetting, environment=optional(TEXTS)), max_size=2),
)  # fmt: skip


HOSTS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
ENDPOINTS = optional(st.tuples(TEXTS, TEXTS)).flatmap(
    lambda pair: st.builds(
        EndpointSettings, host=optional(TEXTS), port=optional(st.integers(0, 65535)),
        host_names=optional(several(HOSTS)), tls_cert=st.just(pair and pair[0]), tls_key=st.just(pair and pair[1]),
        key_required=st.sampled_from([None, "if-any", "always", "never"]), access_log=optional(st.booleans()),
        body_limit=optional(st.integers(1024, 2**40)), heartbeat=optional(positive(1e6, 0.1)),
        idle_stream=optional(positive(1e6, 1.0)), queue=optional(st.integers(1, 10**6)),
        patience=optional(positive(1e6, 0.1)), load_patience=optional(positive(1e6, 0.1)),
    )
)  # fmt: skip


@st.composite
def served(draw, nodes):
    """Models with names and aliases of their own, each of which may fall back on earlier ones."""
    names = draw(st.lists(NAMES, max_size=6, unique=True))
    cut = draw(st.integers(0, len(names)))
    models = []
    for at, name in enumerate(names[:cut]):
        pinned = draw(st.booleans())
        models.append(
            ServedModel(
                name=name,
                model=draw(TEXTS),
                engine=draw(st.sampled_from([None, "llamacpp", "vllm"])),
                executor=draw(st.sampled_from([None, "ray", "embedded"])),
                layout=draw(st.sampled_from([None, "tp2", "pp3", "tp4xpp2", "dp2", "tp2xdp2"])),
                context=draw(optional(st.integers(1, 10**6))),
                concurrency=draw(st.integers(1, 100)),
                nodes=tuple(draw(st.lists(st.sampled_from(nodes), unique=True))),
                aliases=tuple(names[cut:]) if at == 0 else (),
                fallback=tuple(draw(st.lists(st.sampled_from(names[:at]), unique=True))) if at else (),
                ttl=None if pinned else draw(optional(positive(1e6))),
                pinned=pinned,
            )
        )
    return tuple(models)


@st.composite
def clusters(draw):
    unique = (lambda node: node.name, lambda node: node.address, lambda node: node.fabric)
    nodes = draw(st.lists(NODES, min_size=1, max_size=4, unique_by=unique))
    names = st.lists(st.sampled_from([node.name for node in nodes]), min_size=1, unique=True).map(tuple)
    pairs = st.permutations([node.name for node in nodes]).map(lambda order: tuple(order[:2]))
    links = st.sampled_from(WIRES).flatmap(
        lambda wire: st.builds(
            Link, between=pairs, switch=TEXTS, kind=st.just(wire.id),
            bandwidth=optional(st.integers(1, int(wire.line_rate))), latency=optional(positive(1e6, 1e-12)),
        )
    )  # fmt: skip
    storage = st.builds(
        Storage, name=NAMES, path=TEXTS, kind=st.sampled_from(["local", "nfs"]), nodes=names, size=optional(BYTES),
        free=optional(BYTES), bandwidth=optional(RATES),
    )  # fmt: skip
    circuits = st.builds(Circuit, name=NAMES, volts=positive(1e5), amps=positive(1e4), nodes=names)
    return Cluster(
        name=draw(NAMES),
        nodes=tuple(nodes),
        links=draw(several(links)) if len(nodes) > 1 and draw(st.booleans()) else (),
        storage=draw(several(storage, lambda item: item.name)),
        circuits=draw(several(circuits, lambda item: item.name)),
        price_per_kwh=draw(optional(st.builds(Price, amount=MONEY, currency=CURRENCIES))),
        models=draw(served([node.name for node in nodes])),
        residency=draw(st.builds(Residency, min_loaded=st.integers(0, 9), min_stay=positive(1e6))),
        gateway=draw(ENDPOINTS),
    )
