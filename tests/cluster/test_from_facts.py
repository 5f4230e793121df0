"""From what probes say to nodes, fabric addresses and links; and what the topology answers."""

import pytest

from corral.cluster.file import dump, parse
from corral.cluster.from_facts import cluster_from_nodes, name_from_facts, node_from_facts, not_seen
from corral.cluster.topology import bandwidth_of, link_between, slowest_link
from corral.cluster.values import Cluster, Link, Nic, Node, Ssh

GIB = 2**30


def gpu(name, memory, **more):
    return {"name": name, "memory": memory, "unified": memory is None, "driver": "1", "capability": "7.0"} | more


def facts(**parts):
    return {
        "schema": "corral.facts/1",
        "system": {"hostname": "spark1.lan", "architecture": "aarch64"},
        "cpu": {"model": "Cortex-X925", "cores": 20},
        "memory": {"total": 128_525_000_704, "available": 120 * GIB},
        "nvidia": [gpu("NVIDIA GB10", None)],
        "amd": [],
        "apple": [],
        "nics": [
            {"name": "enP7s7", "addresses": ["192.168.1.21/24"], "mtu": 1500, "mac": "m", "state": "up",
             "speed": 10**10, "driver": "r8127", "virtual": False},
            {"name": "enp1s0f0", "addresses": ["10.10.0.21/24"], "mtu": 9000, "mac": "n", "state": "up",
             "speed": 200 * 10**9, "driver": "mlx5_core", "virtual": False},
            {"name": "veth0", "addresses": [], "mtu": 1500, "mac": "o", "state": "up", "speed": 10**10,
             "driver": None, "virtual": True},
        ],
        "rdma": [{"name": "rocep1s0f0", "nic": "enp1s0f0", "state": "active"}],
        "disks": [{"use": "cache", "path": "/home/ann/.cache", "size": 1000 * GIB, "free": 500 * GIB}],
        "python": {"path": "/usr/bin/python3"},
        "containers": {"podman": None, "docker": "/usr/bin/docker"},
    } | parts  # fmt: skip


def test_a_node_is_what_its_machine_says():
    node = node_from_facts(Node(name="spark1", address="192.168.1.21", ssh=Ssh(user="ann")), facts())
    (device,) = node.devices
    assert (device.name, device.unified, device.memory) == ("NVIDIA GB10", True, node.memory)
    assert node.memory == round(119.6 * GIB)
    assert (node.cpu.cores, node.cpu.architecture, node.runtime) == (20, "aarch64", "docker")
    assert [(nic.name, nic.speed, nic.rdma) for nic in node.nics] == [
        ("enP7s7", 10**10 // 8, None),
        ("enp1s0f0", 25 * 10**9, "rocep1s0f0"),
    ]
    assert (node.ssh.user, node.address) == ("ann", "192.168.1.21")
    cluster = Cluster(nodes=(node,))
    assert parse(dump(cluster)) == cluster


def test_equal_devices_are_counted_and_others_kept_apart():
    cards = [gpu("V100", 32 * GIB)] * 4 + [gpu("RTX 3090", 24 * GIB)]
    devices = node_from_facts(Node(name="a"), facts(nvidia=cards)).devices
    assert [(device.name, device.count) for device in devices] == [("V100", 4), ("RTX 3090", 1)]


def test_what_was_not_seen_stays_as_it_was_known():
    unseen = {"not_seen": "it took longer than 2.5 s", "command": "nvidia-smi"}
    known = node_from_facts(Node(name="a"), facts())
    said = facts(nvidia=unseen, memory=unseen, cpu=unseen)
    assert node_from_facts(known, said) == known
    assert not_seen(said) == dict.fromkeys(("nvidia", "memory", "cpu"), "it took longer than 2.5 s")


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("spark1.lan", "spark1"),
        ("Ann's MacBook", "Ann-s-MacBook"),
        ("", "given"),
        ("10.0.0.1", "10.0.0.1"),
        ("---", "node"),
        ("taken", "taken-2"),
        ("x" * 200, "x" * 60),
    ],
)
def test_a_node_is_called_as_its_machine_is(hostname, name):
    assert name_from_facts({"system": {"hostname": hostname}}, "given", {"taken"}) == name
    assert Node(name=name)


def with_nics(name, address, *nics, **more):
    made = tuple(
        Nic(name=f"n{at}", addresses=(ip,), speed=speed, rdma=rdma) for at, (ip, speed, rdma) in enumerate(nics)
    )
    return Node(name=name, address=address, nics=made, **more)


def test_the_fabric_is_the_fastest_subnet_that_all_share():
    slow, fast = 125_000_000, 25 * 10**9
    nodes = [
        with_nics(
            f"s{n}",
            f"192.168.1.{n}",
            (f"192.168.1.{n}/24", slow, None),
            (f"10.0.0.{n}/24", fast, "mlx5_0"),
            (f"10.7.{n}.1/24", 2 * fast, "mlx5_1"),  # faster, but each on a subnet of its own
        )
        for n in (1, 2, 3)
    ]
    cluster = cluster_from_nodes(nodes)
    assert [node.fabric for node in cluster.nodes] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    (link,) = cluster.links
    assert (link.between, link.kind, link.switch) == (("s1", "s2", "s3"), "roce-200g", "switch")


def test_the_management_network_is_the_fabric_where_there_is_no_other():
    nodes = [with_nics(f"s{n}", f"192.168.1.{n}", (f"192.168.1.{n}/24", 125_000_000, None)) for n in (1, 2)]
    cluster = cluster_from_nodes(nodes)
    assert [(node.fabric, node.fabric_address) for node in cluster.nodes] == [
        (None, "192.168.1.1"),
        (None, "192.168.1.2"),
    ]
    assert cluster.links[0].kind == "tcp-1g"


def test_a_fabric_that_a_person_chose_is_kept_to():
    ways = [(1, "192.168.1.1"), (2, None)]
    nodes = [
        with_nics(f"s{n}", f"h{n}", (f"192.168.1.{n}/24", 1, None), (f"10.0.0.{n}/24", 9, None), fabric=fabric)
        for n, fabric in ways
    ]
    assert [node.fabric for node in cluster_from_nodes(nodes).nodes] == ["192.168.1.1", "192.168.1.2"]


def test_this_machine_among_others_gets_an_address():
    nodes = [
        with_nics("me", "local", ("10.0.0.1/24", None, None)),
        with_nics("other", "h2", ("10.3.0.2/24", None, None)),
    ]
    cluster = cluster_from_nodes(nodes)
    assert (cluster.nodes[0].fabric, cluster.links) == ("10.0.0.1", ())


def test_docker_bridges_are_no_fabric():
    nic = Nic(name="docker0", addresses=("172.17.0.1/16",))
    nodes = [Node(name=name, address=name, nics=(nic,)) for name in "ab"]
    assert [node.fabric for node in cluster_from_nodes(nodes).nodes] == [None, None]


def test_the_slowest_link_of_a_group():
    nodes = tuple(Node(name=name, address=name) for name in "abcd")
    fast = Link(between=("a", "b"), kind="roce-200g")
    measured = Link(between=("a", "b"), kind="roce-200g", bandwidth=3 * 10**9)
    switch = Link(between=("a", "b", "c"), switch="s", kind="tcp-10g")
    cluster = Cluster(nodes=nodes, links=(fast, switch))
    assert link_between(cluster, "b", "a") == fast
    assert slowest_link(cluster, "ab") == fast
    assert slowest_link(cluster, "abc") == switch
    assert slowest_link(cluster, "abcd") is None
    assert slowest_link(cluster, "a") is None
    assert bandwidth_of(measured) == 3 * 10**9


def test_what_is_local():
    assert Node(name="a", address="local").is_local
    assert Node(name="a", address="127.0.0.1").is_local
    assert Node(name="a", address="127.0.0.1").fabric_address == "127.0.0.1"
    assert not Node(name="a", address="127.0.0.1", ssh=Ssh(port=2222)).is_local
    assert Node(name="a", address="h", fabric="10.0.0.1").fabric_address == "10.0.0.1"
