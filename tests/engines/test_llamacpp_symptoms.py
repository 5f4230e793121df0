from pathlib import Path

import pytest

from corral.engines.diagnosis import RankEnd, diagnose
from corral.engines.llamacpp.symptoms import SYMPTOMS

RECORDED = Path(__file__).parent / "recorded" / "llamacpp"
# Log of a real failure -> the symptom that names its cause, and words of the sentence.
FAILED = {
    "embedded-context": ("llamacpp.context-memory", "std::bad_alloc"),
    "embedded-empty": ("llamacpp.not-gguf", "no GGUF file"),
    "embedded-key": ("llamacpp.key-missing", "llama.block_count"),
    "embedded-magic": ("llamacpp.not-gguf", "no GGUF file"),
    "embedded-memory": ("llamacpp.memory", "8193572864 bytes"),
    "embedded-missing": ("llamacpp.tensor-missing", "blk.1.ffn_up.weight"),
    "embedded-nosuch": ("llamacpp.no-file", "No such file"),
    "embedded-port": ("llamacpp.port", "28113"),
    "embedded-shape": ("llamacpp.tensor-shape", "256,    704,      1,      1 in place of 256,    700"),
    "embedded-shard": ("llamacpp.no-file", "tiny-00002-of-00002.gguf"),
    "embedded-shorthead": ("llamacpp.header", "key-value pairs"),
    "embedded-truncated": ("llamacpp.truncated", "blk.1.ffn_down.weight"),
    "embedded-unknown": ("llamacpp.architecture", "corralarch"),
    "embedded-vocabulary": ("llamacpp.vocabulary", "cannot find tokenizer merges"),
    "rpc-address": ("llamacpp.rpc-bind", "could not listen"),
    "rpc-device": ("llamacpp.device", "CUDA0"),
    "rpc-lost": ("llamacpp.rpc-lost", "RPC worker ended"),
    "rpc-memory": ("llamacpp.memory", "RPC0[10.98.0.2:28121]"),
    "rpc-port": ("llamacpp.rpc-bind", "could not listen"),
    "rpc-unreachable": ("llamacpp.rpc-unreachable", "10.98.0.2:28121"),
    "rpc-worker-memory": ("llamacpp.memory-worker", "3907.00 MiB"),
    "server-device": ("llamacpp.device", "CUDA0"),
    "server-missing": ("llamacpp.tensor-missing", "blk.1.ffn_up.weight"),
    "server-option": ("llamacpp.option", "--nonsense"),
    "server-port": ("llamacpp.port", "28120"),
    "server-truncated": ("llamacpp.truncated", "blk.1.ffn_down.weight"),
    "server-unknown": ("llamacpp.architecture", "corralarch"),
}
HEALTHY = ("embedded-healthy", "server-healthy", "server-healthy-rpc", "rpc-worker-healthy")


def end(log, *, name="server", status=1, order=0):
    lines = tuple((RECORDED / f"{log}.log").read_text(errors="replace").splitlines())
    return RankEnd(name=name, node="a", log=lines, status=status, order=order)


@pytest.mark.parametrize("log", FAILED)
def test_recorded_failure_is_named(log):
    symptom, words = FAILED[log]

    found = diagnose(SYMPTOMS, [end(log)])

    assert found is not None
    assert found.symptom == symptom
    assert words in found.cause


@pytest.mark.parametrize("log", HEALTHY)
def test_healthy_log_has_no_symptom(log):
    ended = diagnose(SYMPTOMS, [end(log, status=None)])

    assert ended is None


def test_every_symptom_and_every_record_is_shown():
    assert {symptom for symptom, _ in FAILED.values()} == {symptom.id for symptom in SYMPTOMS}
    assert {path.stem for path in RECORDED.glob("*.log")} == {*FAILED, *HEALTHY}


def test_a_worker_without_memory_is_blamed_not_the_server_that_lost_it():
    found = diagnose(SYMPTOMS, [end("rpc-lost"), end("rpc-worker-memory", name="rpc-1", order=1)])

    assert found is not None
    assert (found.rank, found.symptom) == ("rpc-1", "llamacpp.memory-worker")
