"""What a user may name as a model; the Hub is a fake one on loopback, and weights are never fetched from it."""

import json
import socket
import threading
import time

import gguf
import numpy as np
import pytest
from safetensors.numpy import save

from corral.errors import BadInput, CorralError
from corral.models import hubheaders
from corral.models.known import architecture
from corral.models.parameters import parameters
from corral.models.resolve import resolve
from corral.models.source import ModelSource
from models.fake_hub import COMMIT, FakeHub

CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 4,
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
}
REPO = "someone/marvel"


def tensors(layers):
    half = np.float16
    yield "model.embed_tokens.weight", np.zeros((2048, 512), half)
    yield "model.norm.weight", np.zeros(512, half)
    for n in range(layers):
        at = f"model.layers.{n}"
        yield f"{at}.input_layernorm.weight", np.zeros(512, half)
        yield f"{at}.post_attention_layernorm.weight", np.zeros(512, half)
        for name, columns in (("q", 512), ("k", 128), ("v", 128)):
            yield f"{at}.self_attn.{name}_proj.weight", np.zeros((columns, 512), half)
        yield f"{at}.self_attn.o_proj.weight", np.zeros((512, 512), half)
        yield f"{at}.self_attn.q_norm.weight", np.zeros(64, half)
        yield f"{at}.self_attn.k_norm.weight", np.zeros(64, half)
        for name in ("gate", "up"):
            yield f"{at}.mlp.{name}_proj.weight", np.zeros((1024, 512), half)
        yield f"{at}.mlp.down_proj.weight", np.zeros((512, 1024), half)


def repository():
    every = dict(tensors(4))
    parts = [dict(list(every.items())[0::2]), dict(list(every.items())[1::2])]
    names = [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)]
    weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    files = {name: save(part) for name, part in zip(names, parts, strict=True)}
    files["config.json"] = json.dumps(CONFIG).encode()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": weight_map}).encode()
    return files


@pytest.fixture
def fake(monkeypatch):
    hub = FakeHub(REPO, repository())
    with hub.running():
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.setenv("HF_HOME", "/nonexistent")
        yield hub


@pytest.mark.parametrize("name", ["qwen3-32b", "Qwen/Qwen3-32B", "Qwen3-32B", " qwen3-32b "])
def test_a_name_of_the_catalog_needs_nothing_else(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    read = resolve(name, tmp_path)
    assert read.architecture == architecture("qwen3-32b")
    assert read.weights is None


@pytest.mark.parametrize(
    ("name", "format_name"),
    [("nvidia/DeepSeek-V3.2-NVFP4", "nvfp4"), ("Qwen/Qwen3-32B-FP8", "fp8"), ("Qwen/Qwen3-32B", None), ("", "q8_0")],
)
def test_a_name_may_say_the_format(name, format_name, tmp_path):
    assert resolve(name, tmp_path).format == format_name


def test_what_is_on_disk_counts_first(tmp_path):
    (tmp_path / "qwen3-32b").mkdir()
    (tmp_path / "qwen3-32b" / "config.json").write_text(json.dumps(CONFIG))
    read = resolve("qwen3-32b", tmp_path)
    assert read.architecture.layers == 4
    assert read.format == "fp16"
    assert resolve("qwen3-32b/config.json", tmp_path).architecture.blocks == read.architecture.blocks


def test_a_folder_gives_its_weights_by_class(tmp_path):
    for name, data in repository().items():
        (tmp_path / name).write_bytes(data)
    read = resolve(".", tmp_path)
    assert {kind: read.weights.of(kind) for kind in ("attention", "mlp", "embedding", "norm")} == {
        kind: 2 * parameters(read.architecture)[kind] for kind in ("attention", "mlp", "embedding", "norm")
    }


def test_a_gguf_file_gives_its_format(demo_gguf):
    read = resolve(str(demo_gguf), demo_gguf.parent)
    assert read.format == "fp32"
    assert read.weights.total == sum(tensor.n_bytes for tensor in gguf.GGUFReader(demo_gguf).tensors)


def test_of_a_hub_model_only_headers_are_read(fake, tmp_path):
    read = resolve(REPO, tmp_path)
    assert read.architecture.layers == 4
    assert read.format == "fp16"
    assert read.weights.of("mlp") == 2 * parameters(read.architecture)["mlp"]
    assert read.weights.total == 2 * sum(parameters(read.architecture).values())
    assert COMMIT[:12] in read.architecture.source


def test_a_big_file_s_weights_stay_where_they_are(fake, tmp_path):
    heavy = {f"model.layers.{n}.mlp.up_proj.weight": np.zeros((1024, 16384), np.float16) for n in range(4)}
    fake.files = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save(heavy)}
    read = resolve(REPO, tmp_path)
    assert read.weights.of("mlp") == 4 * 2 * 1024 * 16384
    assert fake.sent < 2_500_000 < len(fake.files["model.safetensors"])


def test_a_gguf_on_the_hub_is_read_by_ranges(fake, tmp_path, demo_gguf):
    fake.files = {"marvel-Q8_0.gguf": demo_gguf.read_bytes(), "README.md": b"x"}
    read = resolve(REPO, tmp_path)
    assert read.architecture.blocks == resolve(str(demo_gguf), tmp_path).architecture.blocks
    assert all(asked for _, path, asked in fake.requests if path.endswith(".gguf"))


def test_the_token_goes_to_the_hub_alone(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    other = FakeHub(REPO, fake.files)
    with other.running():
        fake.redirect_to = other.url
        resolve(REPO, tmp_path)
    assert fake.authorized
    assert other.requests
    assert not other.authorized


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (404, "RepoNotFound", BadInput, "has no model someone/marvel"),
        (401, None, BadInput, "or it is private"),
        (403, "GatedRepo", CorralError, "is gated"),
        (503, None, CorralError, "answered 503"),
    ],
)
def test_what_the_hub_refuses_is_said(fake, tmp_path, status, code, kind, words):
    fake.refuse = {"/api/models/": (status, code)}
    with pytest.raises(kind, match=words) as caught:
        resolve(REPO, tmp_path)
    assert caught.value.remedy.endswith(".")


def test_a_hub_that_hangs_is_given_up(fake, tmp_path):
    fake.hang_after = 10
    started = time.monotonic()
    with pytest.raises(CorralError, match="did not answer in time"):
        resolve(REPO, tmp_path, seconds=0.5)
    assert time.monotonic() - started < 20


def test_a_hub_that_drips_is_given_up(tmp_path, monkeypatch):
    """A byte now and then keeps every single read alive, and must not keep the whole alive."""
    stop = threading.Event()
    server = socket.create_server(("127.0.0.1", 0))

    def drip():
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not stop.wait(0.05):
                connection.sendall(b" ")

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
    try:
        with pytest.raises(CorralError, match="did not answer in time"):
            resolve(REPO, tmp_path, seconds=0.3)
    finally:
        stop.set()
        thread.join(10)
        server.close()


def test_without_a_network_the_catalog_answers_for_a_copy_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    read = resolve("unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF:Q4_K_M", tmp_path)
    assert read.architecture.id == "qwen3-30b-a3b"
    assert read.format == "q4_k_m"
    assert "could not be asked" in read.notes[0]


@pytest.mark.parametrize("variable", [("HF_HUB_OFFLINE", "1"), ("HF_ENDPOINT", "http://127.0.0.1:9")])
def test_without_a_network_an_unknown_model_is_refused_in_two_sentences(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(*variable)
    with pytest.raises(CorralError) as caught:
        resolve("nobody/never-heard-of", tmp_path)
    assert not isinstance(caught.value, BadInput)
    assert caught.value.cause.endswith(".")
    assert caught.value.remedy.endswith(".")


def test_a_wrong_endpoint_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(BadInput, match="HF_ENDPOINT"):
        resolve(REPO, tmp_path)


def test_near_names_are_offered(tmp_path):
    with pytest.raises(BadInput, match="qwen3-32b"):
        resolve("qwen3-33b", tmp_path)


def test_an_unknown_architecture_is_estimated_only_if_asked(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"architectures": ["Odd"], "model_type": "odd"}))
    with pytest.raises(BadInput, match="Odd"):
        resolve("config.json", tmp_path)
    read = resolve("config.json", tmp_path, estimate=True)
    assert "is not known" in read.notes[0]


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 100, b'{"sha": 1, "siblings": 7}', b"[" * 100_000])
def test_a_damaged_listing_is_said(fake, tmp_path, damage, monkeypatch):
    monkeypatch.setattr(hubheaders.Hub, "_get", lambda *_, **__: damage)
    with pytest.raises(BadInput):
        resolve(REPO, tmp_path)


def test_a_header_without_an_end_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(hubheaders, "_LONGEST_HEADER", 1000)
    hub = hubheaders.Hub(deadline=time.monotonic() + 60)
    name = "model-00001-of-00002.safetensors"
    with hub.open(REPO, COMMIT, name, len(fake.files[name])) as file, pytest.raises(BadInput, match="has no end"):
        [file.seek(start) and file.read(1) for start in range(1, len(fake.files[name]), 2**20)]


def test_a_server_without_ranges_is_said(fake):
    fake.ranges = False
    hub = hubheaders.Hub(deadline=time.monotonic() + 60)
    name = "model-00001-of-00002.safetensors"
    with hub.open(REPO, COMMIT, name, len(fake.files[name])) as file:
        file.seek(10)
        with pytest.raises(CorralError, match="in parts"):
            file.read(1)


def test_a_source_of_another_kind_has_no_plan(tmp_path):
    with pytest.raises(BadInput, match="demo"):
        resolve("demo", tmp_path)
    assert ModelSource(kind="demo").kind == "demo"
