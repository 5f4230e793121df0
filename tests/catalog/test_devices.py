"""Devices by every name that they are known by, and the relations between figures that a slip would break."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.catalog.devices import device, known_devices
from corral.catalog.links import link
from corral.errors import BadInput

GIB = 2**30
# Every device that the tables of measurements name, and those announced for unseen ones.
MEASURED = [
    "gb10",
    "h100-sxm",
    "rtx3090",
    "b200-sxm",
    "m2-ultra",
    "strix-halo",
    "rtx4090",
    "rtx-a6000",
    "l40s",
    "a100-pcie-80",
    "a100-sxm-80",
    "h100-pcie",
    "pi4",
    "m1-max",
    "m3-max",
    "m3-ultra",
    "pi5",
    "v100-sxm2-32",
    "rtx5090",
    "h200-sxm",
    "r9700",
    "mi50-32",
    "v100-sxm2-16",
    "m1-ultra",
    "m5-max",
    "rtx5060ti-16",
    "rtx5080",
    "rx7900xtx",
    "rx9070",
    "p40",
    "mi210",
    "rtx-pro-6000",
    "rtx-a5000",
    "rtx3060-12",
]
OTHERS = [
    "b300",
    "gb200",
    "l4",
    "p100",
    "mi300x",
    "m4",
    "m4-pro",
    "m4-max",
    "m5-pro",
    "t4",
    "arc-b60",
    "a40",
    "a6000-ada",
    "rtx3080",
    "rtx4080",
    "rtx4070",
    "rtx2080ti",
    "rx7900xt",
    "rx9070xt",
    "rx6800",
    "mi100",
    "mi250",
    "jetson-agx-orin-64",
    "jetson-thor",
    "xeon-ddr4-6ch",
]


@pytest.mark.parametrize("name", [*MEASURED, *OTHERS])
def test_devices_that_others_name(name):
    assert device(name).id == name


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("GeForce rtx 3090", "rtx3090"),
        ("RTX3090", "rtx3090"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32"),
        ("Tesla V100-SXM2-16GB", "v100-sxm2-16"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80"),
        ("NVIDIA RTX 6000 Ada Generation", "a6000-ada"),
        ("NVIDIA GeForce RTX 5060 Ti", "rtx5060ti-16"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("Apple M2 Ultra", "m2-ultra"),
        ("AMD Radeon RX 7900 XTX", "rx7900xtx"),
        ("amd instinct mi50", "mi50-32"),
        ("Radeon 8060S Graphics", "strix-halo"),
    ],
)
def test_makers_names(said, meant):
    assert device(said).id == meant


@pytest.mark.parametrize("said", ["rtx 6090", "NVIDIA GeForce RTX 4090 Laptop GPU", "", "x" * 10_000, "../links/none"])
def test_an_unknown_device_is_told_and_what_to_give_instead(said):
    with pytest.raises(BadInput) as told:
        device(said)
    assert len(str(told.value)) < 400
    assert '"memory"' in told.value.remedy


def test_near_matches_are_named():
    with pytest.raises(BadInput, match=r"near it are .*rtx3090"):
        device("rtx 3095")


@pytest.mark.parametrize("name", known_devices())
def test_a_device_is_plausible(name):
    """Bounds that a wrong unit (GB for GiB, bits for bytes, sparse for dense) breaks."""
    spec = device(name)
    assert 4 * GIB <= spec.memory <= 1024 * GIB
    assert 0.8 * spec.memory <= spec.usable <= spec.memory or spec.unified
    assert 0.6 * spec.memory <= spec.usable <= spec.memory
    assert 10e9 < spec.bandwidth < 10e12
    assert 5 <= spec.power_limit <= 1500
    assert (spec.power_min or 0) <= spec.power_limit
    assert (spec.power_idle or 0) < spec.power_limit
    assert spec.unified == (spec.kind in {"soc", "cpu"})
    if spec.pcie is not None:
        assert 1e9 < spec.pcie < 130e9
    if spec.peer is not None:
        assert link(spec.peer).scope == "device"
    assert all(1e10 < rate < 2e16 for rate in spec.flops.values())


@pytest.mark.parametrize("name", known_devices())
def test_rates_are_dense_and_of_one_generation(name):
    """Halving a format's bits doubles the rate of matrix cores, or quadruples it where FP32 accumulation costs half."""
    spec = device(name)
    flops = spec.flops
    assert spec.matrix <= set(flops)
    assert {"fp32", "fp16"} <= set(flops)
    if {"fp16", "bf16"} <= spec.matrix and spec.generation != "cdna1":  # CDNA 1 computes BF16 at half rate
        assert flops["bf16"] == flops["fp16"]
    for narrow, wide in (("fp8", "fp16"), ("fp4", "fp8"), ("int4", "int8")):
        if {narrow, wide} <= spec.matrix:
            ratio = flops[narrow] / flops[wide]
            assert any(abs(ratio - good) < 0.05 for good in (2, 4)) or spec.id in {"b300", "gb300"}, ratio
    if {"int8", "fp16"} <= spec.matrix and spec.id not in {"b300", "gb300"}:  # Blackwell Ultra has next to no INT8
        assert 0.95 <= flops["int8"] / flops["fp16"] <= 4.1
    if spec.matrix & {"fp16"} and spec.kind != "cpu":
        assert flops["fp16"] >= flops["fp32"]


def test_formats_with_matrix_cores():
    assert device("v100-sxm2-32").matrix == {"fp16"}
    assert device("p40").matrix == device("mi50-32").matrix == device("m2-ultra").matrix == frozenset()
    assert device("rx7900xtx").matrix == {"fp16", "bf16", "int8", "int4"}
    assert "fp8" in device("r9700").matrix
    assert "fp8" not in device("rtx3090").matrix
    assert "fp8" in device("rtx4090").matrix
    assert "fp4" not in device("h100-sxm").matrix
    assert {"fp4", "fp8"} <= device("gb10").matrix


def test_what_makers_state():
    """Dense figures with FP32 accumulation, as the architecture papers give them."""
    assert device("rtx3090").flops["fp16"] == pytest.approx(71e12, rel=0.01)
    assert device("rtx4090").flops["fp16"] == pytest.approx(165.2e12, rel=0.01)
    assert device("rtx4090").flops["fp8"] == pytest.approx(330.3e12, rel=0.01)
    assert device("rtx5090").flops["fp16"] == pytest.approx(209.5e12, rel=0.01)
    assert device("rtx5090").flops["fp4"] == pytest.approx(1676e12, rel=0.01)
    assert device("h100-sxm").flops["fp16"] == 989e12
    assert device("v100-sxm2-32").flops["fp16"] == 125e12
    assert device("r9700").flops["fp16"] == pytest.approx(191e12, rel=0.01)
    assert device("gb10").bandwidth == 273e9


@given(st.sampled_from(known_devices()), st.data())
def test_case_and_punctuation_do_not_matter(name, data):
    """Whatever a tool makes of a name: "NVIDIA_GeForce-RTX  3090" is the RTX 3090."""
    said = device(name).name
    flips = data.draw(st.lists(st.booleans(), min_size=len(said), max_size=len(said)))
    mangled = "".join(letter.upper() if flip else letter.lower() for letter, flip in zip(said, flips, strict=True))
    separator = data.draw(st.sampled_from([" ", "-", "_", "  ", ""]))
    assert device(mangled.replace(" ", separator)).id == name


@given(st.text(max_size=60))
def test_any_text_is_a_device_or_told_to_be_none(said):
    with suppress(BadInput):
        assert device(said).id in known_devices()
