"""The CPU platform with Ray's consent; knows only what differs from vLLM's own."""

from typing import TYPE_CHECKING

from vllm.platforms.cpu import CpuPlatform

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class SeveralHostsCpuPlatform(CpuPlatform):
    """vLLM's CPU platform; one rank takes one unit of Ray's "GPU" resource, of which a node offers as many as seats."""

    # Ray has no name for "a share of a CPU node". "GPU" is the only key for which vLLM's Ray executor asks with
    # num_gpus, and Ray counts it without looking at any hardware when `ray start --num-gpus` says how many there are.
    ray_device_key: str = "GPU"

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """Name the communicator that looks before it shares memory."""
        return "corral_vllm_cpu.communicator.SeveralHostsCommunicator"

    @classmethod
    def check_and_update_config(cls, vllm_config: "VllmConfig") -> None:
        """Put the worker that always warms up a pipeline in place of the stock one, then do as the stock platform."""
        if vllm_config.parallel_config.worker_cls == "auto":
            vllm_config.parallel_config.worker_cls = "corral_vllm_cpu.worker.WarmPipelineWorker"
        super().check_and_update_config(vllm_config)
