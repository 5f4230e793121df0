"""Formats: bits by class, spellings, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.planner.formats import KNOWN_FORMATS, kv_format, native_format, weight_format


def test_mxfp4_holds_only_experts_in_four_bits():
    mxfp4 = weight_format("mxfp4")
    assert mxfp4.bits("experts") == 4.25
    assert mxfp4.bits("attention") == mxfp4.bits("head") == 16.0
    assert weight_format("mxfp4", gguf=True).bits("attention") == 8.5


def test_norms_and_routers_stay_wide():
    assert weight_format("fp8").bits("norm") == 16.0
    assert weight_format("q4_k_m").bits("norm") == 32.0
    assert weight_format("awq-int4").bits("embedding") == 16.0


def test_a_k_quant_is_a_mix_between_its_types():
    mix = weight_format("q4_k_m")
    assert 4.5 < mix.bits("mlp") < 6.5625
    assert mix.bits("head") == 6.5625


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Q4_K_M", "q4_k_m"),
        ("FP8_e4m3", "fp8"),
        ("AWQ", "awq-int4"),
        ("f16", "fp16"),
        ("UD-Q4_K_XL", "ud-q4_k_m"),
        ("w8a8", "int8"),
        ("BF16", "bf16"),
    ],
)
def test_spellings(spelling, name):
    assert weight_format(spelling).name == name


@pytest.mark.parametrize(("name", "bits"), [("exl3-3.5bpw", 3.5), ("foo-int6", 6.16), ("mlx-7bit", 7.5), ("q7_x", 7.5)])
def test_an_unknown_format_that_tells_its_bits(name, bits):
    assert weight_format(name).bits("mlp") == bits


@pytest.mark.parametrize("name", ["", "marvellous", "int0", "int999"])
def test_a_format_that_tells_nothing_is_refused(name):
    with pytest.raises(BadInput):
        weight_format(name)


def test_native_formats():
    assert native_format("gpt-oss-120b").name == "mxfp4"
    assert native_format("gpt-oss-20b", gguf=True).name == "gguf-mxfp4"
    assert native_format("deepseek-r1").name == "fp8"
    assert native_format("qwen3-32b").name == "bf16"
    assert native_format("qwen3-32b", gguf=True).name == "q4_k_m"


@pytest.mark.parametrize(
    ("name", "bits"),
    [("auto", 16), ("", 16), ("auto (BF16)", 16), ("fp8_e5m2", 8), ("q8_0/q8_0", 8.5), ("q8_0/q4_0", 6.5), ("q8", 8.5)],
)
def test_cache_formats(name, bits):
    assert kv_format(name).bits == bits


@given(st.text(max_size=12))
def test_any_name_is_a_format_or_refused(name):
    try:
        made = weight_format(name)
    except BadInput:
        return
    assert all(0 < bits <= 64 for bits in made.by_class.values())


def test_every_known_format_names_itself():
    for name in KNOWN_FORMATS:
        assert weight_format(name).name == name
