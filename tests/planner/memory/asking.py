"""Starts real engines for a case and reads what they report; and what the planner predicts, in the same words."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from corral.planner.memory import stage_memory
from corral.planner.memory.rank import cache_pool
from corral.units import MIB
from planner.memory.made_gguf import gguf_of
from planner.memory.made_hf import write_config
from planner.memory.sparse_gguf import write

HERE = Path(__file__).parent
RECORDED = HERE / "reported.json"
VLLM_CACHE = 64 * MIB
_BUFFERS = {"weights": "model", "kv": "KV", "state": "RS", "compute": "compute"}
_CAPACITY = re.compile(r"KV cache size: ([\d,]+) tokens, Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x")


def recorded():
    """What engines reported when they were asked last, by engine and case."""
    return json.loads(RECORDED.read_text())


def ask_llamacpp(case, folder):
    """Buffers in MiB, as llama.cpp's log has them, on a file of zeros that takes no disk."""
    file = folder / "model.gguf"
    write(gguf_of(case.model, case.weights), file)
    kept = f"GGML_TYPE_{case.kv.upper()}"
    changes = {
        "n_ctx": case.context * case.requests, "n_parallel": case.requests, "kv_unified": False,
        "n_ubatch": case.batch, "cache_type_k": kept, "cache_type_v": kept,
    }  # fmt: skip
    started = subprocess.run(
        [sys.executable, HERE / "llamacpp_start.py", file, json.dumps(changes)],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    log = started.stdout + started.stderr
    assert started.returncode == 0, log[-3000:]
    return {part: _sum(rf" {word} buffer size = +([\d.]+) MiB", log) for part, word in _BUFFERS.items()}


def _sum(pattern, log):
    return round(sum(float(size) for size in re.findall(pattern, log)), 2)


def ask_llamacpp_split(case, folder, programs):
    """MiB by device, of a server that reaches each over RPC on this machine; and in its own memory."""
    file = folder / "model.gguf"
    write(gguf_of(case.model, case.weights), file)
    ports = [free_port() for _ in range(case.split.pp + 1)]
    workers = [f"127.0.0.1:{port}" for port in ports[1:]]
    layers = list(case.memory.stage_layers)
    shares = [*layers[:-1], layers[-1] + 1]  # the output layer counts as one more of the last device
    log = folder / "server.log"
    with ExitStack() as running:
        for port in ports[1:]:
            worker = [f"{programs}/bin/ggml-rpc-server", "--host", "127.0.0.1", "--port", str(port), "--device", "CPU"]
            running.enter_context(_process(worker, folder / f"{port}.log"))
            _wait(lambda port=port: _listens(port), log)
        server = [
            f"{programs}/bin/llama-server", "--model", str(file), "--host", "127.0.0.1", "--port", str(ports[0]),
            "--ctx-size", str(case.context * case.requests), "--parallel", str(case.requests), "--no-kv-unified",
            "--ubatch-size", str(case.batch), "--cache-type-k", case.kv, "--cache-type-v", case.kv, "--threads", "1",
            "--rpc", ",".join(workers), "--device", ",".join(f"RPC{number}" for number in range(len(workers))),
            "--n-gpu-layers", str(sum(shares)), "--split-mode", "layer",
            "--tensor-split", ",".join(str(share) for share in shares), "--fit", "off", "--no-warmup",
            "--log-verbosity", "4",
        ]  # fmt: skip
        running.enter_context(_process(server, log))
        _wait(lambda: "all slots are idle" in log.read_text(), log)
        text = log.read_text()
    return {
        part: [_sum(rf"{re.escape(f'[{worker}]')} {word} buffer size = +([\d.]+) MiB", text) for worker in workers]
        for part, word in _BUFFERS.items()
    } | {"host": _sum(r" CPU_Mapped model buffer size = +([\d.]+) MiB", text)}


@contextmanager
def _process(command, log):
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(until, log):
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.05)


def ask_vllm(case, folder, environment):
    """Bytes of each rank's weights as loaded, and the cache's capacity as vLLM's log has it."""
    started = start_vllm(case, folder, environment, VLLM_CACHE)
    assert started.returncode == 0, started.stderr[-3000:]
    told = json.loads(started.stdout.splitlines()[-1])
    tokens, requests = _CAPACITY.findall(started.stderr)[-1]
    return {
        "weights": [sum(rank["parameters"].values()) for rank in told["ranks"]],
        "blocks": told["ranks"][0]["blocks"],
        "tokens": int(tokens.replace(",", "")),
        "requests": float(requests),
    }


def start_vllm(case, folder, environment, cache):
    """Start vLLM with so many bytes of cache a rank; it ends by itself once it stands."""
    where = write_config(case.model, folder / "model", **case.config)
    arguments = {
        "model": str(where), "max_model_len": case.context, "max_num_seqs": case.requests,
        "max_num_batched_tokens": case.batch, "kv_cache_memory_bytes": cache,
        "tensor_parallel_size": case.split.tp, "pipeline_parallel_size": case.split.pp,
        "dtype": case.config.get("torch_dtype", "bfloat16"),
    }  # fmt: skip
    if case.split.ep > 1:
        arguments["enable_expert_parallel"] = True
    env = os.environ | {
        "CORRAL_PROBE": "1", "PYTHONPATH": str(HERE), "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_COLOR": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }  # fmt: skip
    return subprocess.run(
        [f"{environment}/bin/python", HERE / "vllm_probe.py", json.dumps(arguments)],
        check=False, capture_output=True, text=True, timeout=300, env=env, cwd=folder,
    )  # fmt: skip


def predict_llamacpp(case):
    """MiB of the same buffers."""
    (rank,) = stage_memory(case.memory)
    parts = {"weights": rank.weights, "kv": rank.kv, "state": rank.state, "compute": rank.activations}
    return {part: round(size / MIB, 2) for part, size in parts.items()}


def predict_llamacpp_split(case):
    """MiB of the same buffers."""
    stages = stage_memory(case.memory)
    parts = {"weights": "weights", "kv": "kv", "state": "state", "compute": "activations"}
    told = {part: [round(getattr(stage, name) / MIB, 2) for stage in stages] for part, name in parts.items()}
    return told | {"host": round(stages[0].host / MIB, 2)}


def predict_vllm(case):
    """The same weights and capacity."""
    stages = stage_memory(case.memory)
    pool = cache_pool(case.memory)
    capacity = pool.capacity([VLLM_CACHE] * len(stages), case.context)
    return {
        "weights": [stage.weights for stage in stages for _ in range(case.split.tp)],
        "blocks": capacity.blocks,
        "tokens": capacity.tokens,
        "requests": round(capacity.requests, 2),
    }
