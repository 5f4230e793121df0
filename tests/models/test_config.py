"""config.json -> architecture; exact counts are those of PyPI's transformers 5.23.0 made on the meta device."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.models.config import architecture_from_config, model_type
from corral.models.families.traits import FAMILIES
from corral.models.fields import Fields
from corral.models.formats import format_of_config
from corral.models.hf_config import read_config
from corral.models.known import architecture, catalog_model, known_models
from corral.models.parameters import active_parameters, parameters
from corral.models.resolve import resolve
from models.refusals import value_or_words


def read(config, **options):
    return architecture_from_config(config, name="a model", source="config.json", id="a-model", **options)


def language(model):
    counts = parameters(model)
    return sum(counts.values()) - counts.get("draft", 0) - counts.get("vision", 0)


QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": False,
}


def test_a_dense_model_is_counted_to_the_last_scalar():
    model = read(QWEN3_8B)
    assert language(model) == active_parameters(model) == 8_190_735_360
    assert model.layers == 36
    assert len(model.blocks) == 1


REFERENCE = json.loads((Path(__file__).parent / "reference_counts.json").read_text())


@pytest.mark.parametrize("family", REFERENCE)
def test_every_family_is_counted_as_its_reference_implementation_does(family):
    """Default configurations, which are those of a released model or near one, with every tensor counted."""
    assert language(read(REFERENCE[family]["config"])) == REFERENCE[family]["count"]


def test_every_family_has_a_reference_or_a_model_of_the_catalog():
    of_catalog = {model_type(Fields("", m.config.get("text_config", m.config)), "") for m in known_models()}
    assert set(FAMILIES) <= set(REFERENCE) | of_catalog


def test_a_tied_head_counts_once():
    model = read(QWEN3_8B | {"tie_word_embeddings": True})
    assert language(model) == 8_190_735_360 - 151936 * 4096
    assert "head" not in parameters(model)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_key_value_heads": 5}, "num_key_value_heads is 5, which does not divide the 32 attention heads"),
        ({"head_dim": None, "hidden_size": 4097}, "num_attention_heads is 32, which does not divide the hidden size"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"hidden_size": "4096"}, "hidden_size is '4096', where a whole number is expected"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 36 layers"),
        ({"layer_types": ["odd"] * 36}, "of the kind 'odd'"),
    ],
)
def test_a_lying_config_is_refused_by_name(change, words):
    with pytest.raises(BadInput) as caught:
        read(QWEN3_8B | change)
    assert words in str(caught.value)


def test_a_hybrid_that_does_not_name_its_layers_is_refused():
    config = dict(catalog_model("nemotron-3-nano-4b").config)
    with pytest.raises(BadInput, match="hybrid_override_pattern names 0 of 42 layers"):
        read(config | {"hybrid_override_pattern": None})
    with pytest.raises(BadInput, match="unknown letter 'x'"):
        read(config | {"hybrid_override_pattern": "Mx" * 21})


def test_an_unknown_architecture_is_named_and_estimated_only_if_asked():
    config = QWEN3_8B | {"architectures": ["MarvelForCausalLM"], "model_type": "marvel"}
    with pytest.raises(BadInput, match="MarvelForCausalLM"):
        read(config)
    model = read(config, estimate=True)
    assert language(model) == pytest.approx(8_190_735_360, rel=1e-4)
    assert "MarvelForCausalLM is not known" in model.notes[0]


def test_what_an_unknown_architecture_lacks_is_said():
    with pytest.raises(BadInput, match="lacks hidden_size, vocab_size"):
        read({"architectures": ["X"], "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8})


CONFIGS = {model.id: dict(model.config) for model in known_models()}
KEYS = sorted({key for config in CONFIGS.values() for key in (*config, *config.get("text_config", {}))})
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-1, 300),
    st.floats(allow_nan=True),
    st.text(max_size=10),
    st.lists(st.one_of(st.integers(-5, 5), st.text(max_size=3), st.none()), max_size=100),
    st.dictionaries(st.sampled_from(KEYS), st.integers(-3, 2**40), max_size=4),
)


@settings(max_examples=400)
@given(st.sampled_from(sorted(CONFIGS)), st.dictionaries(st.sampled_from(KEYS), ODD, max_size=5), st.booleans())
def test_any_config_gives_an_architecture_or_words(name, changes, estimate):
    config = CONFIGS[name]
    text = config.get("text_config")
    changed = config | {"text_config": text | changes} if text else config | changes

    def count():
        model = read(changed, estimate=estimate)
        assert sum(parameters(model).values()) >= active_parameters(model) > 0
        model.model_dump_json()

    value_or_words(count)


@given(st.dictionaries(st.sampled_from(KEYS), ODD, max_size=12), st.booleans())
def test_a_config_of_nothing_known_gives_words(config, estimate):
    value_or_words(lambda: read(config, estimate=estimate))


@given(
    st.recursive(st.one_of(st.none(), st.integers(), st.text(max_size=5)), lambda inner: st.lists(inner, max_size=4))
)
def test_a_format_is_named_or_not_but_never_fails(value):
    for config in (
        {"quantization_config": value},
        {"quantization_config": {"quant_method": value, "config_groups": {"a": {"weights": {"num_bits": value}}}}},
        {"torch_dtype": value, "text_config": value},
    ):
        name = format_of_config(config)
        assert name is None or isinstance(name, str)


def test_huge_numbers_of_layers_cost_nothing():
    started = time.perf_counter()
    model = read(QWEN3_8B | {"num_hidden_layers": 4096})
    assert model.layers == 4096
    with pytest.raises(BadInput):
        read(QWEN3_8B | {"num_hidden_layers": 10**12})
    assert time.perf_counter() - started < 2


def test_more_parameters_than_there_can_be_are_refused():
    absurd = {"hidden_size": 2**20, "intermediate_size": 2**24, "num_hidden_layers": 4096, "num_attention_heads": 2**10}
    with pytest.raises(BadInput, match="parameters"):
        read(QWEN3_8B | absurd)


def test_a_config_of_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.write(b'{"a": "')
        file.truncate(2**30)
    started = time.perf_counter()
    with pytest.raises(BadInput, match="is larger than"):
        resolve(str(path), tmp_path)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"[" * 200_000, b'{"a":' * 50_000, b"\xff\xfe", b'{"hidden_size": ' + b"9" * 9999 + b"}"]
)
def test_a_config_that_is_no_json_object_is_refused(tmp_path, data):
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(BadInput):
        resolve(str(path), tmp_path)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"dtype": "float16"}, "fp16"),
        ({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}, "fp8"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq-int4"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 8}}, "int8"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "nvfp4"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bnb-4bit"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "mlx-4bit"),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
                }
            },
            "int4",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "modelopt",
                    "quant_algo": "MIXED_PRECISION",
                    "config_groups": {
                        "a": {"weights": {"num_bits": 8, "type": "float"}},
                        "b": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}},
                    },
                }
            },
            "nvfp4",
        ),
        ({}, None),
    ],
)
def test_a_config_names_its_format(config, name):
    assert format_of_config(config) == name


@pytest.mark.parametrize("name", ["nemotron-3-ultra-550b-a55b", "nemotron-3-nano-4b", "qwen3.5-27b", "kimi-k2.5"])
def test_what_an_engine_is_told_of_a_model_agrees_with_its_anatomy(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps(dict(catalog_model(name).config)))
    facts, model = read_config(tmp_path / "config.json"), architecture(name)
    assert (facts.layers, facts.hidden, facts.vocabulary) == (model.layers, model.hidden, model.vocabulary)
    mixers = [model.blocks[index].mixer for index in model.order]
    cached = [
        mixer.kv_rank + mixer.rope_dim if mixer.kind == "latent" else 2 * mixer.kv_heads * mixer.head_dim
        for mixer in mixers
        if mixer is not None and mixer.kind != "recurrent"
    ]
    assert facts.kv_values == sum(cached)
