"""llama-server with RPC workers on several machines of the lab: right answers, bytes on the wire, a lost worker."""

import subprocess
import sys

import pytest

from corral.engines.diagnosis import RankEnd, diagnose
from corral.engines.llamacpp import LlamaCpp
from corral.engines.llamacpp.versions import build
from corral.models.inspect import inspect
from engines.environments import made
from engines.llamacpp_gang import Gang
from engines.llamacpp_samples import placement, sites

pytestmark = [pytest.mark.slow, pytest.mark.lab]
ENGINE = LlamaCpp()
TOKENS = 48


@pytest.fixture(scope="module")
def programs():
    """llama.cpp's folder, built here if it is not there yet (five minutes on two cores)."""
    return made(build("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab")
    demo = path / "demo.gguf"
    subprocess.run([sys.executable, "-m", "corral.models.demo", "--format", "gguf", str(demo)], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def machines(make_lab, folder):
    return make_lab(3, share=[folder])


def gang(machines, folder, programs, count):
    model = folder / "demo.gguf"
    nodes = [host.name for host in machines.hosts[:count]]
    asked = placement(*nodes, model=inspect(model), context=512, dtype="float32", threads=1, variant="server")
    ENGINE.check(asked)
    where = {
        name: site.model_copy(
            update={
                "address": machines[name].fabric,
                "environment": programs,
                "scratch": str(folder),
                "model": str(model),
            }
        )
        for name, site in sites(asked).items()
    }
    return Gang(ENGINE.launch(asked, where), folder, lambda node, argv: machines[node].enter(argv))


def say(running, tokens=TOKENS, patience=20):
    body = {"prompt": "the", "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    choice = running.ask("/v1/completions", body, patience)["choices"][0]
    return choice["text"], [one["logprob"] for one in choice["logprobs"]["content"]]


def test_split_over_machines_says_what_one_machine_says(machines, folder, programs):
    with gang(machines, folder, programs, 1) as running:
        text, logprobs = say(running)
    for count in (2, 3):
        with gang(machines, folder, programs, count) as running:
            before = [host.bytes() for host in machines.hosts[:count]]
            split_text, split_logprobs = say(running)
            after = [host.bytes() for host in machines.hosts[:count]]

        assert split_text == text
        assert split_logprobs == pytest.approx(logprobs, abs=1e-4)
        hidden = inspect(folder / "demo.gguf").hidden
        for begin, end in zip(before, after, strict=True):
            # A hidden state of float32 crosses once a token at least.
            assert end.rx - begin.rx + end.tx - begin.tx > TOKENS * 4 * hidden


def test_workers_listen_on_the_fabric_alone(machines, folder, programs):
    with gang(machines, folder, programs, 2) as running:
        say(running, 1)
        listening = machines["h2"].run(["cat", "/proc/net/tcp"]).stdout

    port = running.spec.ranks[0].ready.port
    address = bytes(reversed([int(part) for part in machines["h2"].fabric.split(".")])).hex().upper()
    rows = [line.split() for line in listening.splitlines()[1:]]
    assert [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")] == [f"{address}:{port:04X}"]


def test_a_lost_worker_ends_the_server_and_is_named(machines, folder, programs):
    with gang(machines, folder, programs, 2) as running:
        say(running, 1)
        running.processes["rpc-1"].kill()
        machines["h2"].run(["pkill", "-KILL", "ggml-rpc-server"])  # of that machine: it has its own processes
        running.processes["rpc-1"].wait(10)
        with pytest.raises(AssertionError):
            say(running, 4, patience=1)
        status = running.wait("server")
        log = tuple(running.log("server").read_text().splitlines())

    found = diagnose(ENGINE.symptoms, [RankEnd(name="server", node="h1", log=log, status=status)])
    assert found is not None
    assert found.symptom == "llamacpp.rpc-lost"
