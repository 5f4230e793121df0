"""The arguments of `vllm serve` that say what is served, the same in both modes; knows no node but the API's port."""

from math import ceil
from typing import Final

from corral.engines.base import Placement

# Share of an accelerator's memory for weights and cache together; vLLM's own default, written down so that a new
# version of vLLM does not change it behind a plan's back.
GPU_MEMORY_SHARE: Final = "0.9"
CPU_BLOCK_TOKENS: Final = 128  # KV cache block of vLLM's CPU platform (platforms/cpu.py, 0.32)
BYTES_BY_DTYPE: Final = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


def serve_flags(placement: Placement) -> tuple[str, ...]:
    """What every process of `vllm serve` must agree on: model, sizes, split, number format, memory."""
    layout = placement.layout
    flags = [
        "--served-model-name", placement.served_name,
        "--max-model-len", str(placement.context),
        "--max-num-seqs", str(placement.concurrency),
        "--dtype", dtype_of(placement),
        "--tensor-parallel-size", str(layout.tp),
        "--pipeline-parallel-size", str(layout.pp),
    ]  # fmt: skip
    if placement.model.embeds:
        flags += ["--runner", "pooling"]
    return (*flags, *_memory_flags(placement))


def api_flags(port: int) -> tuple[str, ...]:
    """What only the process with the API takes: where it answers (loopback alone) and what it tells of a request."""
    return (
        "--host", "127.0.0.1",
        "--port", str(port),
        "--enable-prompt-tokens-details",
        "--disable-uvicorn-access-log",
    )  # fmt: skip


def _memory_flags(placement: Placement) -> tuple[str, ...]:
    """The KV cache's size. On CPU there is no memory set aside for the engine, so a size is always given.

    On CPU nothing is compiled either: compiling takes 34 s on 2 cores for a model of 4 layers and needs a C++ compiler
    on every node, while the kernels that matter are ready-made.
    """
    if placement.accelerator == "cpu":
        return ("--enforce-eager", "--kv-cache-memory-bytes", str(placement.kv_bytes or cpu_kv_bytes(placement)))
    if placement.kv_bytes is not None:
        return ("--kv-cache-memory-bytes", str(placement.kv_bytes))
    return ("--gpu-memory-utilization", GPU_MEMORY_SHARE)


def dtype_of(placement: Placement) -> str:
    """The number format of weights and activations.

    vLLM's "auto" rounds a float32 model to 16 bits; a model stored in float32 is served as it is.
    """
    if placement.dtype is not None:
        return placement.dtype
    return "float32" if placement.model.quantization.lower() in {"float32", "f32", "fp32"} else "auto"


def cpu_kv_bytes(placement: Placement) -> int:
    """Bytes of KV cache of one rank that hold every request at its full context, and one block more."""
    model, layout = placement.model, placement.layout
    layers = ceil(model.layers / layout.pp)
    heads = max(1, model.kv_heads // layout.tp)
    width = BYTES_BY_DTYPE.get(dtype_of(placement), 2)
    block = 2 * layers * heads * model.head_dim * width * CPU_BLOCK_TOKENS
    blocks_of_request = ceil(placement.context / CPU_BLOCK_TOKENS)
    # vLLM keeps one block to itself, so "every request and one more" is the least that serves them all.
    return block * (placement.concurrency * blocks_of_request + 1)
