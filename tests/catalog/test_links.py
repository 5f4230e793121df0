"""Links by name, the values that cluster files already use, and the relations that a wrong unit would break."""

import pytest

from corral.catalog.devices import device
from corral.catalog.links import is_link, known_links, link, nearest_link, operations
from corral.errors import BadInput

# Every link that the tables of measurements name.
MEASURED = [
    "none",
    "nvlink",
    "nvlink2",
    "pcie3-p2p",
    "pcie4",
    "pcie5-x8",
    "roce-200g",
    "roce-100g",
    "tcp-200g",
    "tcp-50g",
    "tcp-5g",
    "tcp-1g",
    "tb5-rdma",
    "tb5-tcp",
    "usb4-tcp",
]
IN_CLUSTER_FILES = [
    *(f"tcp-{g}g" for g in (1, 2.5, 5, 10, 20, 25, 40, 50, 100, 200, 400)),
    *(f"roce-{g}g" for g in (10, 25, 40, 50, 100, 200, 400)),
    *("ib-fdr", "ib-edr", "ib-hdr", "ib-ndr", "tb3", "tb4", "tb5", "tb5-rdma"),
]


@pytest.mark.parametrize("name", [*MEASURED, *IN_CLUSTER_FILES])
def test_links_that_others_name(name):
    assert is_link(name)
    assert link(name).latency >= 0


@pytest.mark.parametrize("name", known_links())
def test_a_link_is_plausible(name):
    spec = link(name)
    assert 0 < spec.bandwidth <= spec.line_rate
    if name != "none":
        assert 60e6 < spec.bandwidth < 1.5e12, "between 1 Gb/s Ethernet and NVLink 5"
        assert 0.5e-6 <= spec.latency <= 500e-6
    if spec.scope == "device":
        assert not spec.rdma


def test_faster_generations_are_faster():
    for slow, fast in [
        ("tcp-1g", "tcp-10g"),
        ("tcp-200g", "roce-200g"),
        ("roce-100g", "roce-200g"),
        ("pcie3", "pcie4"),
        ("pcie4", "pcie4-p2p"),
        ("pcie4-p2p", "nvlink3-bridge"),
        ("nvlink2", "nvlink4"),
        ("tb5-tcp", "tb5-rdma"),
    ]:
        assert link(slow).bandwidth < link(fast).bandwidth


def test_nvlink_alone_is_that_of_the_device():
    assert link("nvlink", device("b200-sxm")).id == "nvlink5"
    assert link("nvlink", device("v100-sxm2-32")).id == "nvlink2"
    assert link("nvlink").line_rate == 450e9


def test_the_nearest_ethernet():
    assert nearest_link(25 * 10**9, rdma=True).id == "roce-200g"
    assert nearest_link(24 * 10**9, rdma=False).id == "tcp-100g"
    assert nearest_link(1, rdma=False).id == "tcp-1g"
    assert nearest_link(1, rdma=True).id == "roce-10g"


def test_an_unknown_link_is_told_with_its_neighbours():
    with pytest.raises(BadInput, match=r"near it are .*roce-200g") as told:
        link("rocev2-200g")
    assert "bandwidth and latency in the cluster file" in told.value.remedy
    assert not is_link("carrier-pigeon")


def test_what_was_measured_by_message_size():
    """NCCL takes 59 us for 48 KiB over four GB10, the wire alone 8.8."""
    known = {(row.operation, row.stack.split()[0], row.size): row for row in operations("roce-200g")}
    assert known["all_reduce", "NCCL", 49152].latency == pytest.approx(59e-6)
    assert known["ib_write", "ib_write_lat", 49152].latency == pytest.approx(8.8e-6)
    assert any(row.bandwidth == pytest.approx(23.73e9) for row in operations("roce-200g"))
    assert operations("tcp-1g") == ()
