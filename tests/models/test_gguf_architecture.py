"""A GGUF header -> the same architecture as the model's config.json; its parameters are its tensors' elements."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.models.ggml_types import TENSOR_TYPES
from corral.models.gguf import Header, Skipped, Tensor
from corral.models.gguf_architecture import architecture_from_gguf
from corral.models.inspect import inspect
from corral.models.known import architecture
from corral.models.parameters import parameters
from corral.models.weights import gguf_weights
from models.gguf_models import MODELS, header, llama, mlp, outside
from models.refusals import value_or_words
from planner.memory.engine_cases import LLAMACPP
from planner.memory.made_gguf import gguf_of
from planner.memory.sparse_gguf import write


def read(header):
    return architecture_from_gguf([header], name="a model", source="model.gguf", id="a-model")


@pytest.mark.parametrize("name", MODELS)
def test_a_header_gives_what_the_config_gives(name):
    ours, known = read(MODELS[name]()), architecture(name)
    assert ours.layers == known.layers
    assert (ours.hidden, ours.vocabulary, ours.tied) == (known.hidden, known.vocabulary, known.tied)
    for index in range(known.layers):
        block, expected = ours.blocks[ours.order[index]], known.blocks[known.order[index]]
        assert block.mixer == expected.mixer, index
        assert block.feed_forward == expected.feed_forward, index


@pytest.mark.parametrize("name", MODELS)
def test_parameters_add_up_to_the_tensors(name):
    header = MODELS[name]()
    assert sum(parameters(read(header)).values()) == sum(tensor.elements for tensor in header.tensors)


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_measured_by_class(name):
    header = MODELS[name]()
    model = read(header)
    weights, counts = gguf_weights([header], model.layers), parameters(model)
    assert weights.total == sum(tensor.bytes for tensor in header.tensors)
    for kind in ("embedding", "head", "attention", "recurrent", "mlp", "experts", "shared", "draft"):
        assert weights.of(kind) == 2 * counts.get(kind, 0), kind
    assert len(weights.layers) == model.layers


def test_each_tensor_counts_with_its_own_type():
    whole = llama(layers=2)
    mixed = [replace(t, type=TENSOR_TYPES[12]) if "ffn_down" in t.name else t for t in whole.tensors]
    weights = gguf_weights([Header(whole.metadata, tuple(mixed), 0)], 2)
    down = 4096 * 14336
    assert weights.layers[1]["mlp"] == 2 * down * 2 + down // 256 * 144


def test_the_demo_model_has_an_anatomy(demo_gguf, demo_folder):
    gguf, folder = inspect(demo_gguf), inspect(demo_folder)
    assert gguf.anatomy.blocks == folder.anatomy.blocks
    assert gguf.weights.total == gguf.weights_bytes
    assert folder.weights.total == folder.weights_bytes
    assert sum(parameters(gguf.anatomy).values()) == gguf.parameters == folder.parameters


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"llama.block_count": 33}, "there are no tensors of block 32"),
        ({"llama.embedding_length": 4000}, "embedding_length is 4000, but token_embd.weight has the shape"),
        ({"llama.attention.head_count_kv": 5}, "is 5, which does not divide 32 heads"),
        ({"llama.block_count": 2**40}, "block_count is 1099511627776"),
        ({"llama.nextn_predict_layers": 32}, "so none is the model's"),
        ({"general.architecture": ""}, "general.architecture is missing"),
    ],
)
def test_a_lying_header_is_refused(change, words):
    whole = llama()
    with pytest.raises(BadInput) as caught:
        read(Header({**whole.metadata, **change}, whole.tensors, 0))
    assert words in str(caught.value)


def test_an_unknown_architecture_reads_by_its_tensors():
    tensors = [*outside(64, 100), *mlp(0, 64, 256)]
    model = read(header("marvel", {"block_count": 1, "embedding_length": 64, "context_length": 128}, tensors))
    assert model.blocks[0].mixer is None
    assert model.blocks[0].feed_forward.width == 256


BASE = llama(layers=2)
NAMES = [t.name for t in BASE.tensors] + [
    "blk.0.ssm_in.weight",
    "blk.1.ffn_down_exps.weight",
    "blk.0.attn_kv_a_mqa.weight",
]
KEYS = [*BASE.metadata, "llama.ssm.inner_size", "llama.attention.key_length", "llama.attention.kv_lora_rank"]
VALUES = st.one_of(
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.text(max_size=8),
    st.booleans(),
    st.lists(st.integers(-5, 2**40), max_size=3).map(tuple),
    st.builds(Skipped, st.integers(0, 2**40)),
)
SHAPES = st.lists(st.integers(0, 2**20), max_size=4).map(tuple)


@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(NAMES), SHAPES, max_size=3),
)
def test_any_header_gives_an_architecture_or_words(metadata, shapes):
    tensors = {tensor.name: tensor for tensor in BASE.tensors}
    tensors |= {name: Tensor(name, shape, TENSOR_TYPES[0], 0) for name, shape in shapes.items()}
    value_or_words(lambda: read(Header({**BASE.metadata, **metadata}, tuple(tensors.values()), 0)))


MADE = {case.model.id: case.model for case in LLAMACPP}


@pytest.mark.parametrize("name", MADE)
def test_files_that_llamacpp_was_asked_with_read_as_what_they_were_made_of(name, tmp_path):
    """The memory tests load these very files in llama.cpp: their names and shapes are its own."""
    made = MADE[name]
    path = tmp_path / "model.gguf"
    write(gguf_of(made), path)
    facts = inspect(path)
    assert facts.anatomy.layers == made.layers
    for index in range(made.layers):
        block, expected = facts.anatomy.blocks[facts.anatomy.order[index]], made.blocks[made.order[index]]
        assert block.feed_forward == expected.feed_forward, index
        if expected.mixer.kind == "recurrent":
            same = ("family", "state_values", "conv_values")
            assert [getattr(block.mixer, key) for key in same] == [getattr(expected.mixer, key) for key in same], index
        else:
            assert block.mixer == expected.mixer, index
    assert facts.weights.total == facts.weights_bytes
