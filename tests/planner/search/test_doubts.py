"""Cluster files whose figures cannot be: units mixed up, devices of another maker, links faster than their wire."""

from pathlib import Path

import pytest

from corral.cluster.file import load
from corral.errors import BadInput
from corral.models.known import architecture
from corral.planner.plan import Workload
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.judge import Asked

WORK = Workload(context=4096, prompt=512, output=128)


@pytest.fixture
def planned(tmp_path):
    def call(device, *, links="", nodes=1):
        lines = ["schema: corral.cluster/1", "nodes:"]
        for number in range(1, nodes + 1):
            lines += [
                f"  - name: n{number}",
                f"    address: 10.0.0.{number}",
                "    memory: 64 GiB",
                "    devices:",
                f"      - {device}",
            ]
        path = Path(tmp_path) / "cluster.yaml"
        path.write_text("\n".join([*lines, links, ""]), encoding="utf-8")
        return plan(Asked(architecture("llama-3.1-8b"), WORK), load(path), Wishes())

    return call


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("memory: 24 GiB, bandwidth: 936 Gb/s", "bandwidth of 117 GB/s"),
        ("memory: 24 GiB, bandwidth: 936 TB/s", "bandwidth of"),
        ("memory: 24 GiB, bandwidth: 1 B/s", "bandwidth of"),
        ("memory: 24 MiB", "memory of"),
        ("memory: 24 TiB", "memory of"),
        ("memory: 24 GiB, flops: {fp16: 142 GFLOPS}", "rate in fp16"),
        ("memory: 24 GiB, power_limit: 350 kW", "power limit of"),
        ("memory: 24 GiB, power_limit: 1 W", "power limit of"),
    ],
)
def test_units_that_were_mixed_up_are_told_by_what_the_catalog_knows(planned, given, said):
    with pytest.raises(BadInput) as refused:
        planned(f"{{name: rtx3090, vendor: nvidia, {given}}}")
    assert said in refused.value.cause
    assert "RTX 3090" in refused.value.cause


def test_a_device_has_one_maker(planned):
    with pytest.raises(BadInput, match="made by nvidia, not by apple"):
        planned("{name: rtx3090, vendor: apple, memory: 24 GiB}")


@pytest.mark.parametrize(
    "device",
    [
        "{name: rtx3090, vendor: nvidia, memory: 48 GiB, bandwidth: 1100 GB/s, power_limit: 200 W}",
        "{name: m3-ultra, vendor: apple, memory: 96 GiB, unified: true}",
        "{name: strix-halo, vendor: amd, memory: 32 GiB, unified: true}",
    ],
)
def test_what_may_be_is_taken(planned, device):
    assert planned(device).candidates


def test_a_device_that_the_catalog_lacks_is_planned_once_the_fields_that_are_asked_for_are_given(planned):
    examples = {"bandwidth": "900 GB/s", "flops": "{fp16: 125 TFLOPS}", "capability": "'8.9'", "memory": "24 GiB"}
    given: dict[str, str] = {"memory": "0 GiB"}
    device = ", ".join(f"{name}: {value}" for name, value in given.items())
    with pytest.raises(BadInput, match="Foo X9") as refused:
        planned(f"{{name: Foo X9, vendor: nvidia, {device}}}")
    asked = {name: value for name, value in examples.items() if f"`{name}: {value}`" in refused.value.remedy}
    assert asked == {name: value for name, value in examples.items() if given.get(name) != value}
    given |= asked
    device = ", ".join(f"{name}: {value}" for name, value in given.items())
    assert planned(f"{{name: Foo X9, vendor: nvidia, {device}}}").candidates
    assert given == examples


@pytest.mark.parametrize("flops", ["{int8: 200 TOPS}", "{fp8: 200 TFLOPS}", "{fp4: 200 TFLOPS}"])
def test_a_device_that_the_catalog_lacks_needs_a_rate_in_what_everything_can_be_multiplied_in(planned, flops):
    given = f"memory: 24 GiB, bandwidth: 900 GB/s, capability: '9.0', flops: {flops}"
    with pytest.raises(BadInput) as refused:
        planned(f"{{name: Foo X9, vendor: nvidia, {given}}}")
    assert "flops" in refused.value.cause


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("kind: nvlink2", "joins devices"),
        ("kind: pcie4", "joins devices"),
        ("kind: none", "joins devices"),
        ("kind: tcp-10g, bandwidth: 10 GB/s", "bits"),
        ("kind: tcp-1g, bandwidth: 400 GB/s", "bits"),
    ],
)
def test_nodes_are_joined_by_what_joins_nodes_and_no_faster_than_it_carries(planned, link, said):
    with pytest.raises(BadInput, match=said):
        planned(
            "{name: rtx3090, vendor: nvidia, memory: 24 GiB}", nodes=2, links=f"links: [{{between: [n1, n2], {link}}}]"
        )


@pytest.mark.parametrize(
    "link", ["kind: tcp-10g, bandwidth: 9.4 Gb/s", "kind: roce-200g, bandwidth: 24 GB/s, latency: 4 us"]
)
def test_measured_links_are_taken(planned, link):
    device = "{name: rtx3090, vendor: nvidia, memory: 24 GiB}"
    assert planned(device, nodes=2, links=f"links: [{{between: [n1, n2], {link}}}]").candidates


def test_devices_are_not_joined_by_a_network(planned):
    with pytest.raises(BadInput, match="joins nodes"):
        planned("{name: rtx3090, vendor: nvidia, count: 2, memory: 24 GiB, link: roce-100g}")
