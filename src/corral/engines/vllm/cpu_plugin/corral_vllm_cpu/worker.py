"""The CPU worker that warms up a pipeline stage even when nothing is compiled; knows nothing of the stages' hosts."""

from vllm.config import CompilationMode
from vllm.v1.worker.cpu_worker import CPUWorker


class WarmPipelineWorker(CPUWorker):
    """vLLM's CPU worker, which in 0.32 does not run an eager model once before its first request.

    In that run a later stage makes the buffer for what it receives; without it the first request ends the engine with
    "assert self.intermediate_tensors is not None".
    """

    def determine_available_memory(self) -> int:
        """Run an eager stage once, then answer as the stock worker does."""
        if self.parallel_config.pipeline_parallel_size > 1 and self.compilation_config.mode == CompilationMode.NONE:
            self.model_runner.profile_run()
        return super().determine_available_memory()
