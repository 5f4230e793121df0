import io
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from corral.errors import BadInput
from corral.models.inspect import inspect
from corral.models.safetensors import parse_header
from models.refusals import value_or_words

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CONFIG_KEYS = [
    "architectures", "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "max_position_embeddings", "vocab_size", "num_experts", "kv_lora_rank", "layer_types", "quantization_config",
    "text_config", "tie_word_embeddings", "dtype",
]  # fmt: skip


@pytest.fixture
def copy(demo_folder, tmp_path):
    return shutil.copytree(demo_folder, tmp_path / "Copy")


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_both_forms_of_the_demo_say_the_same(demo_folder, demo_gguf):
    folder, file = inspect(demo_folder), inspect(demo_gguf)
    assert (folder.architecture, folder.quantization) == ("LlamaForCausalLM", "float32")
    differ = dict.fromkeys(("path", "format", "files", "architecture", "quantization"), True)
    differ["anatomy"] = {"source", "architecture"}
    assert folder.model_dump(exclude=differ) == file.model_dump(exclude=differ)


def test_parts_say_the_same_as_one_file(demo_folder, demo_shards):
    one, three = inspect(demo_folder), inspect(demo_shards)
    differ = {"path": True, "files": True, "anatomy": {"source"}}
    assert three.model_dump(exclude=differ) == one.model_dump(exclude=differ)
    assert sum(name.endswith(".safetensors") for name, _ in three.files) == 3


@pytest.mark.parametrize("indexed", [True, False])
def test_a_missing_part_is_named(demo_shards, tmp_path, indexed):
    folder = shutil.copytree(demo_shards, tmp_path / "copy")
    (folder / "model-00002-of-00003.safetensors").unlink()
    if not indexed:
        (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(BadInput, match=r"lacks 1 of the model's 3 files: model-00002-of-00003\.safetensors"):
        inspect(folder)


def test_an_index_that_points_elsewhere_is_refused(copy):
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../secret.safetensors"}}')
    with pytest.raises(BadInput, match="which is no file of this folder"):
        inspect(copy)


@pytest.mark.parametrize("missing", [1, 1_000_000])
def test_a_cut_file_says_how_much_is_missing(copy, missing):
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - missing)
    with pytest.raises(BadInput, match=rf"model\.safetensors is cut short: .*\({missing} bytes\)"):
        inspect(copy)


@pytest.mark.parametrize("length", [0, 5, 8, 100])
def test_a_file_cut_in_its_header_says_so(copy, length):
    os.truncate(copy / "model.safetensors", length)
    with pytest.raises(BadInput, match=r"cut short"):
        inspect(copy)


def test_broken_json_names_file_and_line(copy):
    (copy / "config.json").write_text('{\n "a": 1,\n oops\n}')
    with pytest.raises(BadInput, match=r"config\.json is damaged: its JSON cannot be read \(line 3"):
        inspect(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_key_value_heads": 4}, "num_key_value_heads is 4, which does not divide the 6 attention heads"),
        ({"num_attention_heads": 7, "num_key_value_heads": 7, "head_dim": None}, "num_attention_heads is 7"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, where 1 to 4096"),
        ({"num_hidden_layers": 5}, "num_hidden_layers is 5, but the tensors are of 4 layers"),
        ({"hidden_size": 768}, "hidden_size is 768, but model.embed_tokens.weight has the shape 384 x 384"),
        ({"hidden_size": "big"}, "hidden_size is 'big', where a whole number is expected"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"architectures": None}, "architectures is missing"),
        ({"head_dim": 10**40}, "head_dim is a number of 133 bits"),
    ],
)
def test_a_lying_config_is_refused_by_field(copy, changes, message):
    with pytest.raises(BadInput, match=message):
        inspect(edit(copy, **changes))


def test_a_language_model_inside_a_larger_one_is_read(copy):
    config = json.loads((copy / "config.json").read_text())
    inner = {key: value for key, value in config.items() if key != "architectures"}
    (copy / "config.json").write_text(json.dumps({"architectures": ["Seeing"], "text_config": inner}))
    facts = inspect(copy)
    assert (facts.architecture, facts.layers, facts.name) == ("Seeing", 4, "copy")


def test_latent_and_linear_attention_are_counted_as_they_cache(copy):
    assert inspect(edit(copy, kv_lora_rank=512, qk_rope_head_dim=64)).kv_values_per_token == 4 * (512 + 64)
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
    mixed = inspect(edit(copy, kv_lora_rank=None, layer_types=kinds))
    assert mixed.kv_values_per_token == 1 * 2 * 2 * 64


def test_packed_weights_are_counted_unpacked(copy):
    packed = {
        "model.layers.3.up.qweight": np.zeros((8, 64), np.int32),
        "model.layers.3.up.scales": np.zeros((2, 64), np.float16),
    }
    (copy / "model.safetensors").write_bytes(save(packed))
    facts = inspect(edit(copy, quantization_config={"quant_method": "awq", "bits": 4}))
    assert (facts.parameters, facts.quantization) == (8 * 64 * 8, "awq")
    assert facts.weights_bytes == 8 * 64 * 4 + 2 * 64 * 2


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"holds no config\.json and no GGUF file"):
        inspect(tmp_path)
    with pytest.raises(BadInput, match=r"nothing cannot be read: No such file"):
        inspect(tmp_path / "nothing")


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"holds no safetensors file, only pytorch_model\.bin"):
        inspect(copy)


def parse_or_refuse(data):
    value_or_words(lambda: parse_header(io.BytesIO(data), "fuzz.safetensors"))


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_an_error_in_words(data):
    parse_or_refuse(data)
    parse_or_refuse(len(data).to_bytes(8, "little") + data)


@given(
    st.dictionaries(
        st.text(max_size=4),
        JSON
        | st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F4", "I8", "Q9"]) | JSON,
                "shape": st.lists(st.integers(-1, 2**64), max_size=4) | JSON,
                "data_offsets": st.lists(st.integers(-1, 2**64), max_size=3) | JSON,
            }
        ),
        max_size=4,
    )
)
def test_any_header_gives_a_value_or_an_error_in_words(header):
    data = json.dumps(header).encode()
    parse_or_refuse(len(data).to_bytes(8, "little") + data)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"a": ' + "9" * 5000 + "}", "\xff\xfe", "null"])
def test_hostile_json_is_refused_in_words(text):
    data = text.encode("latin-1")
    with pytest.raises(BadInput, match=r"fuzz\.safetensors is damaged"):
        parse_header(io.BytesIO(len(data).to_bytes(8, "little") + data), "fuzz.safetensors")


@given(changes=st.dictionaries(st.sampled_from(CONFIG_KEYS), JSON, max_size=4))
def test_any_config_gives_facts_or_an_error_in_words(demo_folder, tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "model.safetensors").symlink_to(demo_folder / "model.safetensors")
    shutil.copy(demo_folder / "config.json", folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    value_or_words(lambda: inspect(folder))
