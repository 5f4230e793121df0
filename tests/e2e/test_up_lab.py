"""`corral up` over two machines of the lab, as a person types it: the split answers are right, and nothing is left."""

import json
import math
import os
import urllib.request
from pathlib import Path

import pytest

from e2e.program import Corral, base_url

pytestmark = [pytest.mark.slow, pytest.mark.lab]

CACHE = f"{Path.home()}/.cache/corral/"
PROMPT = "<|user|>Who are you?<|end|><|assistant|>"
TOKENS = 40
TOLERANCE = 1e-4  # of a log-probability in float32; a layer left out moves them by 0.1
SMALL = ("--context", 512, "--threads", 1, "--port", 0, "--detach")
EVERYWHERE = "every address"
# Processes, as `ss` cuts their names, that listen on every address of their machine and cannot be told not to. Ray's
# ask for the deployment's token; the store where ranks meet, in the worker of the first rank, asks for nothing.
OPEN_TO_ALL = {
    "ray": {"gcs_server", "raylet", "VLLM::EngineCor", "ray::RayWorkerP"},
    "mp": {"VLLM::Worker_TP"},
    "server": set(),
}
LAYOUTS = [("vllm", "ray", "tp2"), ("vllm", "ray", "pp2"), ("vllm", "mp", "tp2"), ("llamacpp", "server", "pp2")]


def listening(host):
    """(address, process) of each listener on a lab machine, but for its SSH server."""
    found = set()
    for line in host.run(["ss", "-Htlnp"]).stdout.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        address = address.replace("[::ffff:", "").removesuffix("]") if "::ffff:" in address else address
        process = line.partition('users:(("')[2].partition('"')[0]
        if int(port) != host.port:
            found.add((EVERYWHERE if address in {"0.0.0.0", "[::]", "*"} else address, process))
    return found


def say(url, model, prompt=PROMPT):
    """Greedy text and the log-probability of each of its tokens."""
    body = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0, "logprobs": 1}
    request = urllib.request.Request(
        f"{url}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        choice = json.load(answer)["choices"][0]
    told = choice["logprobs"]
    # llama.cpp tells them as chat completions do, vLLM as completions do.
    logprobs = [one["logprob"] for one in told["content"]] if told.get("content") else told["token_logprobs"]
    return choice["text"], logprobs


@pytest.fixture(scope="module")
def one_host(tmp_path_factory):
    """What each engine says on this machine alone."""
    said = {}

    def reference(engine):
        if engine not in said:
            corral = Corral(tmp_path_factory.mktemp(engine))
            try:
                variant = ["--executor", "server"] if engine == "llamacpp" else []
                told = corral(
                    *(
                        "up",
                        "demo",
                        "--engine",
                        engine,
                        *variant,
                        "--dtype",
                        "float32",
                        "--context",
                        512,
                        "--threads",
                        1,
                    ),
                    *("--port", 0, "--detach"),
                    timeout=1500,
                )
                said[engine] = say(base_url(told), "corral-demo")
            finally:
                corral.end()
        return said[engine]

    return reference


@pytest.fixture(scope="module")
def machines(make_lab):
    return make_lab(2)


@pytest.fixture
def cluster(machines, tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(machines.cluster_yaml())
    return path


@pytest.mark.parametrize(("engine", "executor", "layout"), LAYOUTS)
def test_a_model_split_over_two_machines(corral, machines, cluster, one_host, engine, executor, layout):
    text, logprobs = one_host(engine)
    before = {host.name: host.snapshot() for host in machines.hosts}
    sent = {host.name: host.bytes().tx for host in machines.hosts}
    told = corral(
        *("up", "demo", "--cluster", cluster, "--engine", engine, "--executor", executor, "--layout", layout),
        *("--dtype", "float32", *SMALL),
        timeout=300,
    )
    split_text, split_logprobs = say(base_url(told), "corral-demo")
    known = corral.deployment("corral-demo")
    assert (known["state"], known["nodes"], known["engine"]) == ("ready", ["h1", "h2"], engine)

    assert split_text == text
    assert len(split_logprobs) == len(logprobs)
    worst = max(abs(a - b) for a, b in zip(logprobs, split_logprobs, strict=True))
    assert worst < TOLERANCE
    assert not math.isclose(sum(logprobs), 0.0)
    for host in machines.hosts:
        assert host.bytes().tx - sent[host.name] > 50_000, "the split is real: bytes crossed the fabric"

    for host in machines.hosts:
        listeners = listening(host)
        assert {place for place, _ in listeners} <= {"127.0.0.1", "[::1]", host.fabric, EVERYWHERE}
        assert {process for place, process in listeners if place == EVERYWHERE} <= OPEN_TO_ALL[executor]

    assert corral.head_rss() < 150e6

    corral("down")
    for host in machines.hosts:
        left = host.snapshot() - before[host.name]
        assert not left.processes
        assert not left.ports
        assert [path for path in left.files if not path.startswith(CACHE)] == []
        assert [path for path in left.files if path.startswith(f"{CACHE}run/")] == []


def test_a_machine_that_loses_power_is_named_and_the_other_is_left_clean(corral, make_lab, tmp_path, one_host):
    one_host("llamacpp")
    machines = make_lab(2)
    cluster = tmp_path / "lab.yaml"
    cluster.write_text(machines.cluster_yaml())
    before = machines["h1"].snapshot()
    corral(
        "up", "demo", "--cluster", cluster, "--layout", "pp2", "--context", 512, "--port", 0, "--detach", timeout=120
    )
    machines["h2"].power_off()
    failed = corral.wait_for(
        lambda: (known := corral.deployment("corral-demo"))["state"] == "failed" and known, "the failure", 120
    )
    assert "h2" in failed["failure"]["cause"]
    corral("status", status=1)
    left = machines["h1"].snapshot() - before
    assert not left.processes
    assert not left.ports


def test_a_killed_ray_worker_is_named(corral, machines, cluster, one_host):
    one_host("vllm")
    corral("up", "demo", "--cluster", cluster, "--engine", "vllm", "--layout", "pp2", *SMALL, timeout=300)
    raylet = next(process for process in machines["h2"].processes() if process.argv[0].endswith("raylet"))
    os.kill(raylet.outer_pid, 9)
    failed = corral.wait_for(
        lambda: (known := corral.deployment("corral-demo"))["state"] == "failed" and known, "the failure", 120
    )
    assert "h2" in failed["failure"]["cause"]
    for host in machines.hosts:
        assert not host.processes()
