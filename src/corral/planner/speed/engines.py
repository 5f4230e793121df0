"""Which engines resemble each other in speed; knows no version and no flag."""

import math
from functools import lru_cache
from typing import Final, Literal, TypeAlias

EngineFamily: TypeAlias = Literal["vllm", "sglang", "trt-llm", "llamacpp", "exllama", "mlx", "cpu-cluster"]

# By the start of the name, longest first; what is not here is taken as vLLM, the field's default.
_FAMILIES: Final[tuple[tuple[str, EngineFamily], ...]] = (
    ("vllm", "vllm"),
    ("aphrodite", "vllm"),
    ("tgi", "vllm"),
    ("lmdeploy", "vllm"),
    ("sglang", "sglang"),
    ("mini-sglang", "sglang"),
    ("trt", "trt-llm"),
    ("tensorrt", "trt-llm"),
    ("nim", "trt-llm"),
    ("llamacpp", "llamacpp"),
    ("llama.cpp", "llamacpp"),
    ("llama-cpp", "llamacpp"),
    ("llama-server", "llamacpp"),
    ("llama-bench", "llamacpp"),
    ("ik", "llamacpp"),
    ("ollama", "llamacpp"),
    ("koboldcpp", "llamacpp"),
    ("lm-studio", "llamacpp"),
    ("lmstudio", "llamacpp"),
    ("llamafile", "llamacpp"),
    ("gpustack", "llamacpp"),
    ("exl", "exllama"),
    ("tabby", "exllama"),
    ("mlx", "mlx"),
    ("exo", "mlx"),
    ("distributed-llama", "cpu-cluster"),
    ("prima", "cpu-cluster"),
)


@lru_cache(maxsize=256)
def engine_family(name: str) -> EngineFamily:
    """The family of an engine by its name, in any spelling."""
    plain = name.strip().lower().replace("_", "-")
    for start, family in _FAMILIES:
        if plain.startswith(start):
            return family
    return "vllm"


def engine_is_known(name: str) -> bool:
    """Whether the family is known rather than guessed."""
    plain = name.strip().lower().replace("_", "-")
    return any(plain.startswith(start) for start, _ in _FAMILIES)


def reads_gguf(name: str) -> bool:
    """Whether the engine's 4-bit and 16-bit files are GGUF."""
    return engine_family(name) in {"llamacpp", "cpu-cluster"}


def chunks_in_flight(name: str) -> float:
    """Chunks of a prompt that may follow each other through the stages of a pipeline.

    llama.cpp computes a batch (2,048 tokens) in parts (512) and waits for its end; over RPC it does not overlap them
    (`ggml_backend_sched`: pipelines need backends with events, which RPC is not).
    """
    if engine_family(name) != "llamacpp":
        return math.inf
    return 1.0 if "rpc" in name.lower() else 4.0


def batches_stages(name: str) -> bool:
    """Whether the engine keeps several batches in flight through pipeline stages; llama.cpp sends one at a time."""
    return engine_family(name) in {"vllm", "sglang", "trt-llm"}
