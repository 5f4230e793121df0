"""Discovery onto a file that a person has edited: what is refreshed, what is kept, and that it is said."""

import re
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings

from cluster.strategies import clusters
from corral.cluster.file import dump, parse
from corral.cluster.merge import merge
from corral.cluster.values import Cluster, Cpu, Device, Disk, Link, Nic, Node
from corral.errors import BadInput

GIB = 2**30
FILE = """\
# the rack in the garage
schema: corral.cluster/1
name: garage

nodes:
  # bought in May
  - name: spark1
    address: 10.0.0.1  # by the window
    memory: 119 GiB
    devices:
      - name: gb10  # the catalog's name
        vendor: nvidia
        memory: 119.7 GiB
        unified: true
        power_limit: 140 W
    nics:
      - name: eth0
        addresses: [10.0.0.1/24]
        mtu: 1500
        speed: 10 Gb/s  # keep: the switch port is slower than it says

circuits:
  - {name: wall, volts: 120 V, amps: 15 A, nodes: [spark1]}

price_per_kwh: {amount: 0.31, currency: EUR}  # from the bill
"""


def device(**changes):
    values = {
        "name": "NVIDIA GB10",
        "vendor": "nvidia",
        "memory": round(119.7 * GIB),
        "unified": True,
        "driver": "580.1",
    }
    return Device(**(values | {"power_limit": 240.0} | changes))


def node(**changes):
    eth0 = Nic(name="eth0", addresses=("10.0.0.1/24",), mtu=9000, speed=25 * 10**9)
    values = {"name": "spark1", "address": "10.9.9.9", "memory": round(119.7 * GIB), "devices": (device(),)}
    return Node(**(values | {"cpu": Cpu(model="Cortex", cores=20), "nics": (eth0,)} | changes))


def test_what_machines_say_is_refreshed_and_what_a_person_wrote_is_kept():
    merged = merge(FILE, Cluster(name="other", nodes=(node(),)))
    cluster = parse(merged.text)
    for written in (
        "# the rack in the garage",
        "# bought in May",
        "# by the window",
        "# the catalog's name",
        "# from the bill",
    ):
        assert written in merged.text
    spark = cluster.nodes[0]
    assert (cluster.name, spark.address, cluster.price_per_kwh.amount) == ("garage", "10.0.0.1", 0.31)
    assert cluster.circuits[0].amps == 15.0
    assert (spark.devices[0].name, spark.devices[0].power_limit, spark.devices[0].driver) == ("gb10", 140.0, "580.1")
    assert (spark.memory, spark.cpu.cores) == (round(119.7 * GIB), 20)
    assert (spark.nics[0].mtu, spark.nics[0].speed) == (9000, 10**10 // 8)
    assert merged.changes == (
        "spark1: cpu added",
        "spark1: memory 119 GiB -> 119.7 GiB",
        "spark1 gb10: driver added: 580.1",
        "spark1 eth0: mtu 1500 -> 9000",
    )


def test_other_hardware_replaces_the_old():
    merged = merge(FILE, Cluster(nodes=(node(devices=(device(name="other", memory=24 * GIB, unified=False),)),)))
    assert [found.name for found in parse(merged.text).nodes[0].devices] == ["other"]
    assert "spark1: devices changed" in merged.changes


def test_new_nodes_nics_and_disks_are_added_and_none_is_taken_away():
    second = Node(name="spark2", address="10.0.0.2", nics=(Nic(name="eth0", addresses=("10.0.0.2/24",)),))
    first = node(nics=(Nic(name="eth1"),), disks=(Disk(path="/data", free=5),))
    link = Link(between=("spark1", "spark2"), kind="tcp-10g")
    merged = merge(FILE, Cluster(nodes=(first, second), links=(link,)))
    cluster = parse(merged.text)
    assert [found.name for found in cluster.nodes] == ["spark1", "spark2"]
    assert [nic.name for nic in cluster.nodes[0].nics] == ["eth0", "eth1"]
    assert cluster.links == (link,)
    assert {"spark2: new node", "spark1 eth1: new nic"} < set(merged.changes)
    again = merge(merge(FILE, Cluster(nodes=(first,))).text, Cluster(nodes=(second,)))
    assert [found.name for found in parse(again.text).nodes] == ["spark1", "spark2"]


def test_a_link_that_a_person_measured_stays():
    text = FILE + "links:\n  - {between: [spark1, spark2], bandwidth: 21 GB/s}\n"
    text = text.replace("nodes:\n", "nodes:\n  - {name: spark2, address: 10.0.0.2}\n", 1)
    both = (Node(name="spark2", address="10.0.0.2"), node())
    merged = merge(text, Cluster(nodes=both, links=(Link(between=("spark2", "spark1"), kind="roce-200g"),)))
    (link,) = parse(merged.text).links
    assert link.bandwidth == 21 * 10**9


def test_a_whole_section_can_be_kept():
    text = FILE.replace("    devices:\n", "    devices:  # keep\n")
    merged = merge(text, Cluster(nodes=(node(devices=(device(memory=GIB),)),)))
    assert parse(merged.text).nodes[0].devices == parse(text).nodes[0].devices


def commented(text):
    """The text with a numbered comment above every line, at its end, and after it."""
    lines = []
    for at, line in enumerate(text.splitlines()):
        indent = line[: len(line) - len(line.lstrip())]
        lines += [f"{indent}# above {at}.", f"{line}  # beside {at}." if line else ""]
    return "\n".join([*lines, "# the end.", ""])


def comments(text):
    return sorted(re.findall(r"# (?:above|beside) \d+\.|# the end\.", text))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_comments_survive_and_stand_above_what_they_stood_above(cluster):
    text = commented(dump(Cluster(nodes=cluster.nodes, circuits=cluster.circuits)))
    more = Node(name="a-new-one", address="new", fabric="new")
    grown = [
        old.model_copy(update={"memory": (old.memory or 0) + 1, "nics": (Nic(name="new"),)}) for old in cluster.nodes
    ]
    merged = merge(text, Cluster(nodes=(*grown, more)))
    assert comments(merged.text) == comments(text)
    for line, below in pairwise(text.splitlines()):
        key = re.match(r"(\s*(- )?[a-z_]+:)", below)
        if "# above" in line and key:
            kept = merged.text.splitlines()
            assert kept[kept.index(line) + 1].startswith(key[1])


def test_a_file_that_is_none_is_refused():
    with pytest.raises(BadInput, match=r"mine\.yaml:1"):
        merge("shopping: [milk]\n", Cluster(nodes=(node(),)), "mine.yaml")


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_finding_what_the_file_says_changes_nothing(cluster):
    text = dump(cluster) + "# mine\n"
    assert merge(text, cluster) == merge(text, parse(text))
    assert merge(text, cluster).text == text
    assert merge(text, cluster).changes == ()
