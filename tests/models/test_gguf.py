import io
import os
import shutil
import struct
import time
import tracemalloc
from pathlib import Path

import gguf as official
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import BadInput
from corral.models.ggml_types import FILE_TYPES, TENSOR_TYPES
from corral.models.gguf import Skipped, read_header
from corral.models.gguf_facts import gguf_facts
from corral.models.inspect import inspect
from models.refusals import value_or_words


def write_model(path, *, architecture="llama", vocabulary=0, tensors=(), **metadata):
    """A small GGUF in the official library's hand; `metadata` are keys below the architecture, dots as two bars."""
    writer = official.GGUFWriter(path, architecture)
    shape = {
        "block_count": 2,
        "embedding_length": 8,
        "context_length": 64,
        "attention__head_count": 4,
    }
    for key, value in (shape | metadata).items():
        name = f"{architecture}.{key.replace('__', '.')}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    if vocabulary:
        writer.add_token_list([f"token {number}" for number in range(vocabulary)])
    for name in tensors or ("token_embd.weight",):
        writer.add_tensor(name, np.zeros((16, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def header_bytes(path):
    with path.open("rb") as file:
        return file.read(read_header(file, "x").data_start)


def test_the_type_tables_are_the_official_ones():
    sizes = {kind.value: (kind.name, *size) for kind, size in official.GGML_QUANT_SIZES.items()}
    assert {number: tuple(kind) for number, kind in TENSOR_TYPES.items()} == sizes
    for kind in official.LlamaFileType:
        if kind.name.startswith(("ALL_", "MOSTLY_")):
            assert kind.name.split("_", 1)[1].removesuffix("_MOE") == FILE_TYPES[kind.value]


def test_it_reads_what_the_official_reader_reads(demo_gguf):
    theirs = official.GGUFReader(demo_gguf)
    with demo_gguf.open("rb") as file:
        ours = read_header(file, "demo")
    assert [(t.name, t.shape, t.bytes, t.type.name) for t in ours.tensors] == [
        (t.name, tuple(int(n) for n in t.shape), t.n_bytes, t.tensor_type.name) for t in theirs.tensors
    ]
    assert ours.data_start == theirs.data_offset
    assert ours.metadata["general.architecture"] == "llama"
    assert ours.metadata["tokenizer.ggml.tokens"] == Skipped(384)


def test_the_demo_model_is_known_for_what_it_is(demo, demo_gguf):
    facts = inspect(demo_gguf)
    assert facts.demo
    assert facts.chat
    assert (facts.name, facts.architecture, facts.quantization) == ("corral-demo", "llama", "F32")
    assert facts.parameters == sum(tensor.size for tensor in demo.tensors.values())
    assert facts.weights_bytes == 4 * facts.parameters
    assert (facts.layers, facts.hidden, facts.heads, facts.kv_heads, facts.head_dim) == (4, 384, 6, 2, 64)
    assert (facts.context, facts.vocabulary, facts.kv_values_per_token) == (4096, 384, 2 * 4 * 2 * 64)
    assert facts.files == ((demo_gguf.name, demo_gguf.stat().st_size),)


def test_a_vocabulary_of_300000_strings_is_stepped_over_quickly_and_kept_nowhere(tmp_path):
    path = write_model(tmp_path / "wide.gguf", vocabulary=300_000)
    tracemalloc.start()
    start = time.perf_counter()
    facts = inspect(path)
    elapsed, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts.vocabulary == 300_000
    assert peak < 2**20
    assert elapsed < 20  # about 0.2 s without tracemalloc on an idle core


def test_heads_by_layer_count_layer_by_layer(tmp_path):
    path = write_model(tmp_path / "mixed.gguf", attention__head_count_kv=[0, 2], attention__key_length=16)
    facts = inspect(path)
    assert (facts.kv_heads, facts.head_dim) == (2, 16)
    assert facts.kv_values_per_token == 2 * (16 + 16)


def test_latent_attention_has_one_small_cache(tmp_path):
    path = write_model(tmp_path / "mla.gguf", attention__kv_lora_rank=512, rope__dimension_count=64)
    facts = inspect(path)
    assert (facts.kv_heads, facts.kv_values_per_token) == (1, 2 * (512 + 64))


@pytest.mark.parametrize("missing", [1, 4096, 5_000_000])
def test_a_cut_file_says_how_much_is_missing(demo_gguf, tmp_path, missing):
    cut = tmp_path / "cut.gguf"
    shutil.copy(demo_gguf, cut)
    os.truncate(cut, cut.stat().st_size - missing)
    with pytest.raises(BadInput, match=rf"cut.gguf is cut short: .*\({missing} bytes\)") as raised:
        inspect(cut)
    assert raised.value.remedy == "Fetch it again."


@pytest.mark.parametrize("length", [0, 3, 4, 12, 24, 200, 3000])
def test_a_file_cut_in_its_header_says_so(demo_gguf, tmp_path, length):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(demo_gguf.read_bytes()[:length])
    with pytest.raises(BadInput, match=r"cut short: its header"):
        inspect(cut)


def test_what_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "page.gguf").write_text("<!DOCTYPE html>")
    with pytest.raises(BadInput, match="is no GGUF file"):
        inspect(tmp_path / "page.gguf")


def test_a_big_endian_file_is_refused(tmp_path):
    (tmp_path / "big.gguf").write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(BadInput, match="GGUF version 50331648"):
        inspect(tmp_path / "big.gguf")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"attention__head_count_kv": 3}, r"llama\.attention\.head_count_kv is 3, which does not divide 4 heads"),
        ({"block_count": 2_000_000}, r"llama\.block_count is 2000000, where 1 to 4096 is expected"),
        ({"embedding_length": 0}, r"llama\.embedding_length is 0"),
        ({"context_length": None}, r"llama\.context_length is missing"),
        ({"block_count": None}, "says nothing of layers"),
    ],
)
def test_a_lying_header_is_refused_by_field(tmp_path, metadata, message):
    with pytest.raises(BadInput, match=message):
        inspect(write_model(tmp_path / "lie.gguf", **metadata))


def test_a_missing_part_is_named(demo_gguf, tmp_path):
    for number in (1, 3):
        shutil.copy(demo_gguf, tmp_path / f"m-{number:05}-of-00003.gguf")
    with pytest.raises(BadInput, match=r"lacks 1 of the model's 3 files: m-00002-of-00003\.gguf"):
        inspect(tmp_path / "m-00003-of-00003.gguf")


def test_parts_make_one_model(tmp_path):
    for number in (1, 2):
        write_model(tmp_path / f"big-Q4_K_M-{number:05}-of-00002.gguf", tensors=[f"blk.{number}.x.weight"])
    facts = inspect(tmp_path / "big-Q4_K_M-00002-of-00002.gguf")
    assert facts.name == "big"
    assert facts.path.endswith("big-Q4_K_M-00001-of-00002.gguf")
    assert facts.weights_bytes == 2 * 16 * 8 * 4
    assert len(facts.files) == 2


def read_or_refuse(data):
    value_or_words(lambda: gguf_facts([read_header(io.BytesIO(data), "fuzz.gguf")], Path("fuzz.gguf"), ()))


@given(st.binary(max_size=300), st.integers(0, 20), st.integers(0, 20))
def test_any_bytes_give_a_value_or_an_error_in_words(data, tensors, keys):
    read_or_refuse(data)
    read_or_refuse(b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + data)


@settings(max_examples=300)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4))
def test_any_damage_gives_a_value_or_an_error_in_words(edits, demo_gguf):
    data = bytearray(header_bytes(demo_gguf))
    for where, new in edits:
        at = int(where * (len(data) - len(new)))
        data[at : at + len(new)] = new
    read_or_refuse(bytes(data) + bytes(64))


@given(st.integers(0, 2**64 - 1), st.sampled_from(["keys", "tensors", "string", "strings", "numbers", "key"]))
def test_no_length_is_believed(claim, what):
    """Whatever a file of a few hundred bytes claims, reading it takes less than a megabyte."""
    u32, u64 = struct.Struct("<I").pack, struct.Struct("<Q").pack
    key = u64(1) + b"k"
    data = {
        "keys": u64(0) + u64(claim),
        "tensors": u64(claim) + u64(0),
        "string": u64(0) + u64(1) + key + u32(8) + u64(claim),
        "strings": u64(0) + u64(1) + key + u32(9) + u32(8) + u64(claim),
        "numbers": u64(0) + u64(1) + key + u32(9) + u32(4) + u64(claim),
        "key": u64(0) + u64(1) + u64(claim),
    }[what]
    tracemalloc.start()
    read_or_refuse(b"GGUF" + u32(3) + data + bytes(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
