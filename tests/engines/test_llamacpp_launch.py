import re
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from corral.engines.base import Layout, LlamaCppBuild, PortOpen, PythonEnvironment
from corral.engines.llamacpp import LlamaCpp
from corral.engines.llamacpp.split import apportion, split_layers
from engines.llamacpp_samples import MODEL, placement, sites

ENGINE = LlamaCpp()
SERVED = (
    *("--model", "/models/demo.gguf", "--alias", "demo", "--host", "127.0.0.1", "--port", "20001"),
    *("--ctx-size", "8192", "--parallel", "4", "--no-kv-unified"),
    *("--cache-type-k", "f16", "--cache-type-v", "f16", "--cache-ram", "1024"),
    *("--metrics", "--no-warmup", "--no-ui", "--offline", "--cors-origins", "localhost", "--fit", "off"),
)


def launch(asked):
    ENGINE.check(asked)
    return ENGINE.launch(asked, sites(asked))


def option(argv, name):
    return argv[argv.index(name) + 1]


def test_embedded_is_one_python_process_with_its_script_beside_it():
    spec = launch(placement("a"))

    (rank,) = spec.ranks
    assert rank.argv == ("/cache/envs/a/bin/python", "-u", "/run/a/llamacpp_embedded.py", *SERVED)
    assert "import" in rank.files["llamacpp_embedded.py"]
    assert rank.ready == PortOpen(address="127.0.0.1", port=20001)
    assert (spec.api.node, spec.api.port, spec.api.host) == ("a", 20001, "127.0.0.1")
    assert spec.notes == ()


def test_server_on_one_node_computes_on_its_cpu():
    (rank,) = launch(placement("a", variant="server")).ranks

    assert rank.argv == ("/cache/envs/a/bin/llama-server", *SERVED, "--device", "none")


def test_server_on_three_nodes_without_accelerators():
    spec = launch(placement("a", "b", "c"))

    *workers, server = spec.ranks
    worker = ("--host", "10.0.0.2", "--port", "21002", "--device", "CPU")
    assert [rank.name for rank in spec.ranks] == ["rpc-1", "rpc-2", "server"]
    assert workers[0].argv == ("/cache/envs/b/bin/ggml-rpc-server", *worker)
    assert workers[1].ready == PortOpen(address="10.0.0.3", port=21003)
    assert server.after == ("rpc-1", "rpc-2")
    # 8 layers: 3 on the head's own CPU, 3 on b, 2 on c with the output layer, whose weights stay on the head.
    assert server.argv == (
        "/cache/envs/a/bin/llama-server",
        *SERVED,
        *("--rpc", "10.0.0.2:21002,10.0.0.3:21003", "--device", "RPC0,RPC1"),
        *("--n-gpu-layers", "6", "--split-mode", "layer", "--tensor-split", "3,3"),
        *("--override-tensor", r"^(output|token_embd)\.weight$=CPU"),
    )


def test_accelerators_take_the_workers_first_and_the_head_last():
    *workers, server = launch(placement("a", "a", "b", "b", devices=2)).ranks

    assert option(workers[0].argv, "--device") == "CUDA0,CUDA1"
    assert workers[0].env["CUDA_VISIBLE_DEVICES"] == server.env["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert option(server.argv, "--device") == "RPC0,RPC1,CUDA0,CUDA1"
    assert option(server.argv, "--tensor-split") == "2,2,2,3"
    assert option(server.argv, "--n-gpu-layers") == "9"
    assert "--override-tensor" not in server.argv


def test_tensor_parallelism_on_one_node_splits_rows():
    asked = placement("a", "a", devices=2, layout=Layout(tp=2))
    (server,) = launch(asked).ranks

    assert option(server.argv, "--split-mode") == "row"
    assert option(server.argv, "--device") == "CUDA0,CUDA1"


def test_limited_kv_cache_becomes_one_pool():
    # 8 layers x 2 heads x 64 values x 2 (key, value) x 2 bytes = 4096 bytes a token.
    (rank,) = launch(placement("a", kv_bytes=3000 * 4096)).ranks

    assert option(rank.argv, "--ctx-size") == "3000"
    assert option(rank.argv, "--kv-unified-per-slot") == "2048"
    assert "--kv-unified" in rank.argv


def test_float32_keeps_the_cache_in_float32():
    (rank,) = launch(placement("a", dtype="float32")).ranks

    assert option(rank.argv, "--cache-type-k") == option(rank.argv, "--cache-type-v") == "f32"


def test_threads_reach_the_server_and_the_workers():
    for rank in launch(placement("a", "b", threads=3)).ranks:
        assert option(rank.argv, "--threads") == "3"


def test_small_model_computes_in_one_thread_unless_told_otherwise():
    small = MODEL.model_copy(update={"weights_bytes": 16_000_000})

    for rank in launch(placement("a", "b", model=small)).ranks:
        assert option(rank.argv, "--threads") == "1"
    assert option(launch(placement("a", model=small, threads=2)).ranks[0].argv, "--threads") == "2"
    assert "--threads" not in launch(placement("a", devices=1, model=small)).ranks[0].argv


def test_embedding_model_takes_a_whole_text_in_one_batch():
    asked = placement("a", model=MODEL.model_copy(update={"embeds": True}), context=4096)
    spec = launch(asked)

    assert spec.api.embeddings
    assert "--embeddings" in spec.ranks[0].argv
    assert option(spec.ranks[0].argv, "--ubatch-size") == "4096"


def test_environments_follow_the_variant():
    (embedded,) = ENGINE.environments(placement("a")).values()
    built = ENGINE.environments(placement("a", "b", devices=1))

    assert isinstance(embedded, PythonEnvironment)
    assert embedded.proof == "import xllamacpp"
    assert set(built) == {"a", "b"}
    assert all(isinstance(one, LlamaCppBuild) and "GGML_CUDA=ON" in one.options for one in built.values())
    assert built["a"].digest != ENGINE.environments(placement("a", variant="server"))["a"].digest


def test_pinned_wheel_is_the_locked_one(request):
    lock = (request.config.rootpath / "requirements.lock").read_text()
    (embedded,) = ENGINE.environments(placement("a")).values()

    assert f"\n{embedded.requirements[0]} " in lock


def test_ports_are_asked_for_by_role():
    assert ENGINE.ports(placement("a", "b", "c")) == {"a": ("api",), "b": ("rpc",), "c": ("rpc",)}


NODES = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=2, max_size=8).filter(
    lambda nodes: len(set(nodes)) > 1
)


@given(nodes=NODES, devices=st.sampled_from([0, 8]))
def test_every_rank_is_on_a_seat_and_only_the_fabric_is_bound(nodes, devices):
    asked = placement(*nodes, devices=devices)
    where = sites(asked)
    spec = launch(asked)

    head, *others = asked.nodes
    assert [rank.node for rank in spec.ranks] == [*others, head]
    assert len({rank.name for rank in spec.ranks}) == len(spec.ranks)
    for rank in spec.ranks:
        bound = option(rank.argv, "--host")
        assert bound == ("127.0.0.1" if rank.node == head else where[rank.node].address)
        assert not re.search(r"0\.0\.0\.0|::|--api-key|token=", " ".join(rank.argv))
    assert all(f"{where[node].address}:{where[node].ports['rpc']}" in spec.notes[0] for node in others)


@given(nodes=NODES, devices=st.sampled_from([0, 8]))
def test_every_layer_is_given_out_once(nodes, devices):
    asked = placement(*nodes, devices=devices)
    split = split_layers(asked)
    server = launch(asked).ranks[-1]

    parts = split.remote + split.local
    assert sum(part.layers for part in parts) == MODEL.layers
    offloaded = [int(share) for share in option(server.argv, "--tensor-split").split(",")]
    on_head_cpu = 0 if devices else sum(part.layers for part in split.local)
    assert sum(offloaded) == MODEL.layers + 1 - on_head_cpu == int(option(server.argv, "--n-gpu-layers"))


@given(weights=st.lists(st.integers(1, 9), min_size=1, max_size=8), spare=st.integers(0, 200))
def test_apportion_is_fair(weights, spare):
    total = len(weights) + spare
    shares = apportion(total, [Fraction(weight) for weight in weights])

    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert share >= 1
        assert abs(share - 1 - spare * weight / sum(weights)) < 1


def test_layers_that_the_plan_gives_are_given_out_as_they_are():
    cpus = split_layers(placement("a", "b", layers=(6, 2)))
    assert [(part.node, part.layers) for part in cpus.local + cpus.remote] == [("a", 6), ("b", 2)]
    cards = split_layers(placement("a", "a", "b", devices=8, layers=(1, 2, 5)))
    assert [part.layers for part in cards.local] == [1, 2]
    assert [part.layers for part in cards.remote] == [5]
    together = split_layers(placement("a", "a", "b", layers=(1, 2, 5)))
    assert [part.layers for part in together.local + together.remote] == [3, 5]
