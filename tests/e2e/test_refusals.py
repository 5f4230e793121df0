"""Wrong input to `corral up`: one sentence of cause, one of remedy, the right exit status, and nothing is left."""

import json
import shutil
import socket

import gguf
import numpy as np
import pytest

from corral.models.demo.__main__ import build
from e2e.program import free_port

pytestmark = pytest.mark.slow
UP = ("up", "--detach", "--port", 0)
GIB = 2**30


@pytest.fixture(autouse=True)
def nothing_is_left(corral):
    yield
    corral.nothing_is_left()


NODE = "nodes:\n- name: a\n  address: local\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{NODE}  colour: red\n", ':4: unknown key "colour"'),
        ("nodes:\n- name: [a]\n", ":2: nodes[0].name"),
        (f"{NODE}  memory: 12 parsecs\n", ":4: nodes[0].memory: '12 parsecs'"),
        (f"{NODE}- name: a\n  address: 10.0.0.2\n", ':4: nodes[1].name: "a" is there twice'),
        ("nodes: [}\n", ":1: this is not YAML"),
        ("", "is empty"),
    ],
)
def test_a_wrong_cluster_file_is_named_with_the_line(corral, tmp_path, text, says):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    cause, _ = corral.refused(*UP, "--cluster", path)
    assert f"{path}{says}" in cause or says in cause
    assert not (corral.home / "head.lock").exists(), "no head was started for it"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("/no/such/model.gguf",), "'/no/such/model.gguf' is not there"),
        (("--engine", "nonsense"), "no engine named 'nonsense'"),
        (("--executor", "nonsense"), "no executor named 'nonsense'"),
        (("--name", "../x"), "cannot be a model's name"),
        (("--layout", "xyz"), "'xyz' is no layout"),
        (("--layout", "tp0"), "'tp0' is no layout"),
        (("--cluster", "/no/such/file.yaml"), "There is no cluster file"),
    ],
)
def test_wrong_options_are_named_at_once(corral, options, says):
    cause, _ = corral.refused(*UP, *options)
    assert says in cause
    assert not (corral.home / "corral.db").exists(), "nothing was begun for it"


@pytest.mark.parametrize("option", ["--context", "--threads", "--concurrency"])
def test_counts_below_zero_are_wrong_use(corral, option):
    assert option in corral("up", option, -5, status=2).stderr


def test_names_that_nobody_knows(corral):
    corral.refused("down", "nobody")
    corral.refused("logs")


def test_a_node_that_cannot_be_reached_is_named(corral, tmp_path):
    port = free_port()
    path = tmp_path / "cluster.yaml"
    path.write_text(f"nodes:\n- name: far\n  address: 127.0.0.1\n  ssh:\n    user: me\n    port: {port}\n")
    cause, _ = corral.refused(*UP, "--cluster", path, status=3)
    assert "far (127.0.0.1)" in cause
    assert corral.state() == "failed"
    corral("status", status=1)


@pytest.mark.parametrize(
    ("options", "status", "says", "remedy"),
    [
        (("--layout", "tp3"), 2, "cannot be split 3 ways", "tensor-parallel degree"),
        (("--layout", "tp2"), 1, "cannot run the layout tp2", "pp2"),
        (("--layout", "pp64"), 2, "64 pipeline stages", "at most"),
        (("--executor", "ray"), 2, "no variant 'ray'", "embedded"),
        (("--context", 999_999), 2, "contexts of up to 4096 tokens", "--context 4096"),
        (("--concurrency", 10_000_000), 1, "TiB too little", "--concurrency"),
        (("--dtype", "nonsense"), 2, "'nonsense'", "float32"),
        (("some/model",), 3, "some/model could not be fetched", "Check the network"),
    ],
)
def test_what_cannot_be_launched_is_refused_with_a_way_out(corral, options, status, says, remedy):
    cause, way = corral.refused(*UP, *options, status=status)
    assert says in cause
    assert remedy in way


def test_a_port_in_use_is_named_and_nothing_is_wished(corral):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cause, remedy = corral.refused("up", "--port", port)
    assert f"Port {port} on 127.0.0.1 is in use" in cause
    assert "--port" in remedy
    assert corral.json("status") == {"schema": "corral.status/1", "head": None, "deployments": [], "offers": []}


def test_an_endpoint_for_everybody_needs_consent(corral):
    cause, remedy = corral.refused("up", "--host", "0.0.0.0")
    assert "no keys" in cause
    assert "--allow-unkeyed" in remedy
    assert corral.state() is None


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Both forms of a small real model."""
    folder = tmp_path_factory.mktemp("demo")
    build(folder / "demo.gguf", "gguf")
    build(folder / "demo", "safetensors", shards=2)
    return folder


def half(data):
    return data[: len(data) // 2]


def no_magic(data):
    return b"nope" + data[4:]


def garbage(data):
    return data[:8] + np.random.default_rng(1).bytes(2000) + data[2008:]


def stranger(data):
    return data[:200_000].replace(b"llama", b"xlama") + data[200_000:]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (half, "cut short"),
        (lambda data: data[:100], "cut short"),
        (lambda _: b"", "cut short"),
        (no_magic, "no GGUF file"),
        (garbage, "damaged"),
        (stranger, "'xlama'"),
    ],
)
def test_a_spoiled_gguf_file_is_named(corral, demo, tmp_path, spoil, says):
    path = tmp_path / "spoiled.gguf"
    path.write_bytes(spoil((demo / "demo.gguf").read_bytes()))
    cause, _ = corral.refused(*UP, path)
    assert says in cause
    assert path.exists()


def cut_a_shard(folder):
    shard = next(folder.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    return "cut short"


def lose_a_shard(folder):
    shard = next(folder.glob("*.safetensors"))
    shard.unlink()
    return shard.name


def unknown_architecture(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["Stranger"]}))
    return "does not know the architecture Stranger"


def no_config(folder):
    (folder / "config.json").unlink()
    return "no config.json"


def broken_config(folder):
    (folder / "config.json").write_text("{")
    return "config.json is damaged"


@pytest.mark.parametrize("spoil", [cut_a_shard, lose_a_shard, unknown_architecture, no_config, broken_config])
def test_a_spoiled_safetensors_folder_is_named(corral, demo, tmp_path, spoil):
    folder = tmp_path / "spoiled"
    shutil.copytree(demo / "demo", folder)
    says = spoil(folder)
    cause, _ = corral.refused(*UP, folder)
    assert says in cause


def test_a_model_that_does_not_fit_is_refused_with_what_is_missing_and_what_would_fit(corral, tmp_path):
    path = tmp_path / "huge.gguf"
    write_huge(path, 2000 * GIB)
    cause, remedy = corral.refused(*UP, path, status=1)
    assert "huge does not fit" in cause
    assert "too little" in cause
    assert "GiB" in cause
    assert "of weights instead of 2.0 TiB" in remedy


def write_huge(path, size):
    """A GGUF file whose header claims so many bytes of weights; the disk holds the header only."""
    layers, width = 80, 8192
    rows = size // 2 // width // layers
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(width)
    writer.add_head_count(64)
    writer.add_head_count_kv(8)
    writer.add_feed_forward_length(28672)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.add_tensor_info("token_embd.weight", (32000, width), np.dtype(np.float16), 32000 * width * 2)
    for layer in range(layers):
        writer.add_tensor_info(f"blk.{layer}.ffn_up.weight", (rows, width), np.dtype(np.float16), rows * width * 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + size + 32000 * width * 2 + 4096)


def test_a_home_that_is_a_file_or_below_one_is_named(corral, tmp_path):
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        for command in (UP, ("status",), ("down",), ("events",), ("logs",)):
            cause, _ = corral.refused(*command, status=3, CORRAL_HOME=str(home))
            assert str(tmp_path / "file") in cause
