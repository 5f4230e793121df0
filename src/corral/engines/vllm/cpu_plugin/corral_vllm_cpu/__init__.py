"""A vLLM platform plugin: the CPU platform of vLLM, made fit for several hosts; knows vLLM and PyTorch, not Corral.

vLLM 0.32 on CPU lacks three things for ranks on more than one host, and this plugin adds just these:

- Ray: the stock platform says that it does not support it (`platform.py`);
- the proof that two ranks share a memory before they talk through it (`communicator.py`);
- eager pipelines: the first request kills an engine whose warm-up was skipped (`worker.py`).
"""

from importlib import metadata


def register() -> str | None:
    """Name the platform class, or None where vLLM is not a CPU build, so that vLLM goes on looking."""
    try:
        version = metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return None
    return "corral_vllm_cpu.platform.SeveralHostsCpuPlatform" if "cpu" in version else None
