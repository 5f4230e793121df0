"""config.json -> architecture; exact counts are those of PyPI's transformers 5.23.0 made on the meta device."""

import pytest

from corral.errors import BadInput
from corral.models.config import architecture_from_config
from corral.models.parameters import active_parameters, parameters


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
