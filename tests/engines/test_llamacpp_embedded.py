"""The embedded engine for real, on the demo model: what it answers, how it ends, what it says when it cannot start."""

import importlib.util
import subprocess
import sys

import pytest

from corral.engines.diagnosis import RankEnd, diagnose
from corral.engines.llamacpp import LlamaCpp
from corral.models.inspect import inspect
from engines.llamacpp_gang import Gang, free_port
from engines.llamacpp_samples import placement, sites

pytestmark = pytest.mark.slow
ENGINE = LlamaCpp()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "demo.gguf"
    subprocess.run([sys.executable, "-m", "corral.models.demo", "--format", "gguf", str(path)], check=True, timeout=60)
    return path


def gang(folder, model, facts, *, port=None, **changes):
    asked = placement("a", model=facts, context=256, concurrency=2, threads=1, **changes)
    ENGINE.check(asked)
    (site,) = sites(asked).values()
    here = {
        "environment": sys.prefix,
        "scratch": str(folder),
        "model": str(model),
        "ports": {"api": port or free_port()},
    }
    return Gang(ENGINE.launch(asked, {"a": site.model_copy(update=here)}), folder, lambda _, argv: argv)


def test_answers_and_ends_at_once(demo, tmp_path):
    with gang(tmp_path, demo, inspect(demo), dtype="float32") as running:
        body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
        first = running.ask("/v1/chat/completions", body)
        again = running.ask("/v1/chat/completions", body)
        process = running.processes["server"]
        process.terminate()
        status = running.wait("server", seconds=2)

    assert first["model"] == "demo"
    assert first["choices"][0]["message"]["content"] == again["choices"][0]["message"]["content"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert status == -15


def test_each_slot_has_the_context_that_was_asked_for(demo, tmp_path):
    with gang(tmp_path, demo, inspect(demo)) as running:
        running.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})

        assert "n_slots = 2, n_ctx_slot = 256, kv_unified = 'false'" in running.log("server").read_text()


def test_embedding_model_gives_vectors(demo, tmp_path):
    facts = inspect(demo).model_copy(update={"embeds": True})
    with gang(tmp_path, demo, facts) as running:
        # The demo names no pooling, so each token has its vector; OpenAI's route wants one a text.
        (answer,) = running.ask("/embedding", {"content": "some words"})

    assert {len(vector) for vector in answer["embedding"]} == {facts.hidden}


def broken(demo, path, how):
    whole = demo.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "not-gguf": b"XXXX" + whole[4:]}[how])
    return path


@pytest.mark.parametrize("how", ["truncated", "not-gguf"])
def test_bad_model_ends_it_with_a_clear_line(demo, tmp_path, how):
    bad = broken(demo, tmp_path / "bad.gguf", how)
    with gang(tmp_path, bad, inspect(demo)) as running:
        status = running.wait("server")
        log = tuple(running.log("server").read_text().splitlines())

    assert status == 1
    assert any(line.startswith("E corral: the embedded llama.cpp did not start") for line in log)
    found = diagnose(ENGINE.symptoms, [RankEnd(name="server", node="a", log=log, status=status)])
    assert found is not None
    assert found.symptom == f"llamacpp.{how}"


def test_taken_port_is_named(demo, tmp_path):
    (tmp_path / "second").mkdir()
    port = free_port()
    with gang(tmp_path, demo, inspect(demo), port=port) as first:
        first.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})
        with gang(tmp_path / "second", demo, inspect(demo), port=port) as second:
            status = second.wait("server")
            log = tuple(second.log("server").read_text().splitlines())

    found = diagnose(ENGINE.symptoms, [RankEnd(name="server", node="a", log=log, status=status)])
    assert status == 1
    assert found is not None
    assert str(port) in found.cause


def test_script_takes_every_option_that_the_engine_gives(demo):
    path = importlib.util.find_spec("corral.launcher.onnode.llamacpp_embedded").origin
    loaded = importlib.util.spec_from_file_location("llamacpp_embedded", path)
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    for changes in ({}, {"threads": 2}, {"kv_bytes": 10**7}, {"accelerator": "metal", "devices": 1}):
        asked = placement("a", context=256, **changes)
        (rank,) = ENGINE.launch(asked, sites(asked)).ranks
        options = module.read_options(rank.argv[3:])
        params = module.parameters(options)
        assert (params.n_parallel, params.port, params.offline) == (4, 20001, True)
        assert params.n_gpu_layers == (-2 if "accelerator" in changes else 0)
