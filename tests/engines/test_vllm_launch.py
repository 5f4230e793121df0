import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.engines.base import LogLine, PortOpen
from corral.engines.vllm import Vllm
from corral.engines.vllm.flags import cpu_kv_bytes
from corral.engines.vllm.on_ray import HEAD_PORTS, NODE_PORTS, SOCKET_PATH_LIMIT, WORKER_PORTS
from corral.errors import BadInput
from engines.vllm_samples import LARGE, MODEL, SECRET, option, placement, sites

GOLDEN = Path(__file__).parent / "recorded" / "vllm"
PLACEMENTS = {
    "launch-cuda-ray": placement(*"aabbccdd", tp=2, pp=4, devices=True, model=LARGE, context=32768, concurrency=16),
    "launch-cpu-ray": placement("a", "b", tp=2, threads=1),
    "launch-mp": placement("a", "b", pp=2, variant="mp"),
    "launch-single": placement("a"),
}


def launched(wanted):
    return Vllm().launch(wanted, sites(wanted))


def named(spec):
    return {rank.name: rank for rank in spec.ranks}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_commands_are_as_recorded(name):
    """CORRAL_RECORD=1 writes them anew; the difference then stands in the review."""
    told = launched(PLACEMENTS[name]).model_dump(mode="json")
    path = GOLDEN / f"{name}.json"
    if os.environ.get("CORRAL_RECORD"):
        path.write_text(json.dumps(told, indent=1) + "\n")

    assert told == json.loads(path.read_text())


def test_ray_starts_from_the_head_outwards():
    spec = launched(placement("a", "b", "c", pp=3))

    ranks = named(spec)
    assert list(ranks) == ["ray-head", "ray-1", "ray-2", "server"]
    assert ranks["ray-1"].after == ranks["ray-2"].after == ("ray-head",)
    assert set(ranks["server"].after) == {"ray-head", "ray-1", "ray-2"}
    assert isinstance(ranks["ray-head"].ready, LogLine)
    assert ranks["server"].ready == PortOpen(address="127.0.0.1", port=spec.api.port)


def test_without_ray_no_rank_waits_for_another():
    """They meet at the master's port: whoever is first waits there."""
    ranks = named(launched(placement("a", "b", tp=2, variant="mp")))

    assert {name: rank.after for name, rank in ranks.items()} == {"rank-1": (), "server": ()}
    assert "--headless" in ranks["rank-1"].argv
    assert "--headless" not in ranks["server"].argv


def test_several_ranks_on_one_node_need_no_meeting_place():
    argv = launched(placement("a", "a", tp=2)).ranks[0].argv

    assert option(argv, "--distributed-executor-backend") == "mp"
    assert "--nnodes" not in argv


def test_what_listens_beyond_the_fabric_is_told():
    """The lab's test of a split model sees these listeners, and no others."""
    ray, mp = launched(placement("a", "b", tp=2)).notes, launched(placement("a", "b", tp=2, variant="mp")).notes

    assert ["store" in note and "every address of a " in note for note in ray] == [True, False]
    assert "Ray's servers listen on every address of a, b;" in ray[1]
    assert mp == ray[:1]
    assert launched(placement("a", "a", tp=2)).notes == launched(placement("a")).notes == ()


def test_a_float32_model_is_not_rounded():
    assert option(launched(placement("a")).ranks[0].argv, "--dtype") == "float32"


def test_the_model_decides_on_its_number_format():
    assert option(launched(placement("a", model=LARGE)).ranks[0].argv, "--dtype") == "auto"


def test_the_user_decides_on_the_number_format():
    assert option(launched(placement("a", model=LARGE, dtype="float16")).ranks[0].argv, "--dtype") == "float16"


def test_an_embedder_is_served_as_one():
    spec = launched(placement("a", model=MODEL.model_copy(update={"embeds": True})))

    assert option(spec.ranks[0].argv, "--runner") == "pooling"
    assert spec.api.embeddings


def test_cache_on_cpu_holds_every_request():
    # 2 (K and V) x 4 layers x 2 heads x 64 x 4 bytes = 4096 bytes a token; 4 requests of 1024 and a block of 128.
    assert cpu_kv_bytes(placement("a")) == 4096 * (4 * 1024 + 128)


def test_cache_on_cpu_is_divided_as_the_model_is():
    whole = cpu_kv_bytes(placement("a"))

    assert cpu_kv_bytes(placement("a", "b", tp=2)) == cpu_kv_bytes(placement("a", "b", pp=2)) == whole // 2


def test_threads_are_shared_by_the_ranks_of_a_node():
    wanted = placement("a", "a", "b", pp=3)

    ranks = named(Vllm().launch(wanted, sites(wanted, cores=8)))

    assert ranks["ray-head"].env["OMP_NUM_THREADS"] == "4"
    assert ranks["ray-1"].env["OMP_NUM_THREADS"] == "8"


def test_a_scratch_folder_too_deep_for_sockets_is_refused():
    wanted = placement("a", "b", tp=2)
    deep = "/tmp/" + "x" * 40

    with pytest.raises(BadInput, match="on a is 45 characters"):
        Vllm().launch(wanted, sites(wanted, scratch=deep))


def test_the_longest_scratch_folder_fits_a_socket():
    from corral.engines.vllm.on_ray import SOCKET_PATH_SUFFIX

    wanted = placement("a", "b", tp=2)
    longest = "/tmp/".ljust(SOCKET_PATH_LIMIT - SOCKET_PATH_SUFFIX, "x")

    assert Vllm().launch(wanted, sites(wanted, scratch=longest)).ranks


def test_an_unknown_variant_is_refused():
    with pytest.raises(BadInput, match="'slurm'"):
        Vllm().ports(placement("a", variant="slurm"))


# -- whatever the placement


@st.composite
def placements(draw):
    """Layouts over one to four nodes, seats side by side, equally many on each node."""
    nodes = [f"n{index}" for index in range(draw(st.integers(1, 4)))]
    each = draw(st.sampled_from((1, 2, 4)))
    ranks = len(nodes) * each
    tp = draw(st.sampled_from([degree for degree in (1, 2, 4) if ranks % degree == 0]))
    return placement(
        *[node for node in nodes for _ in range(each)],
        tp=tp,
        pp=ranks // tp,
        devices=draw(st.booleans()),
        model=LARGE,
        variant=draw(st.sampled_from(("", "ray", "mp"))),
    )


@settings(max_examples=60, deadline=None)
@given(placements())
def test_every_node_has_its_ranks_and_addresses(wanted):
    places = sites(wanted)

    spec = Vllm().launch(wanted, places)

    assert {rank.node for rank in spec.ranks} == set(wanted.nodes)
    assert spec.api.node == wanted.seats[0].node
    for rank in spec.ranks:
        assert rank.env["VLLM_HOST_IP"] == places[rank.node].address
        assert rank.env["GLOO_SOCKET_IFNAME"] == places[rank.node].interface
        assert rank.argv[0].startswith(places[rank.node].environment)


@settings(max_examples=60, deadline=None)
@given(placements())
def test_names_are_unique_and_waits_end(wanted):
    ranks = Vllm().launch(wanted, sites(wanted)).ranks

    seen: set[str] = set()
    for rank in ranks:
        assert rank.name not in seen
        assert set(rank.after) <= seen
        seen.add(rank.name)


@settings(max_examples=60, deadline=None)
@given(placements())
def test_no_secret_is_in_a_command(wanted):
    for rank in Vllm().launch(wanted, sites(wanted)).ranks:
        assert not any(SECRET in word for word in rank.argv)
        if rank.name.startswith("ray"):
            assert rank.env["RAY_AUTH_TOKEN"] == SECRET
            assert rank.env["RAY_AUTH_MODE"] == "token"


@settings(max_examples=60, deadline=None)
@given(placements())
def test_every_port_asked_for_is_used_and_no_port_twice(wanted):
    places = sites(wanted)
    ranks = Vllm().launch(wanted, places).ranks

    for node in wanted.nodes:
        words = [word for rank in ranks if rank.node == node for word in rank.argv]
        for name, port in places[node].ports.items():
            assert any(word == str(port) or word.endswith(f":{port}") for word in words), name
    for rank in ranks:
        if rank.name.startswith("ray"):
            ports = [
                option(rank.argv, word) for word in (*NODE_PORTS.values(), *HEAD_PORTS.values()) if word in rank.argv
            ]
            low, high = int(option(rank.argv, "--min-worker-port")), int(option(rank.argv, "--max-worker-port"))
            assert high - low == WORKER_PORTS - 1
            assert len(set(ports)) == len(ports)
            assert not any(low <= int(port) <= high for port in ports)


@settings(max_examples=60, deadline=None)
@given(placements())
def test_as_many_units_as_seats(wanted):
    for rank in Vllm().launch(wanted, sites(wanted)).ranks:
        seats = [seat for seat in wanted.seats if seat.node == rank.node]
        if rank.name.startswith("ray"):
            assert int(option(rank.argv, "--num-gpus")) == len(seats)
        devices = [str(device) for seat in seats for device in seat.devices]
        assert rank.env.get("CUDA_VISIBLE_DEVICES", "") == ",".join(devices)


def test_layers_that_the_plan_gives_are_told_to_every_rank():
    wanted = placement("a", "b", pp=2, layers=(1, 3))
    assert {rank.env["VLLM_PP_LAYER_PARTITION"] for rank in launched(wanted).ranks} == {"1,3"}
    assert all("VLLM_PP_LAYER_PARTITION" not in rank.env for rank in launched(placement("a", "b", pp=2)).ranks)
