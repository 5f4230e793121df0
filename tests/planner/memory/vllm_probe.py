"""Asks a real vLLM on the CPU what it holds: run inside vLLM's environment, with a JSON of its arguments.

Prints one line of JSON on standard output: each rank's bytes of parameters by name as they were loaded (the CPU repacks
them afterwards), the cache's groups and blocks, and the scheduler's sizes. vLLM's own log goes to standard error.
"""

import json
import os
import sys

LOADED = []


def _bytes(tensor):
    return tensor.numel() * tensor.element_size()


def _note(process):
    def noted(model, *arguments, **named):
        parameters = {name: _bytes(value) for name, value in model.named_parameters(remove_duplicate=True)}
        LOADED.append(parameters)
        return process(model, *arguments, **named)

    return noted


if os.environ.get("CORRAL_PROBE"):  # in a worker, which imports this for the class below
    import vllm.model_executor.model_loader.base_loader as loader

    loader.process_weights_after_loading = _note(loader.process_weights_after_loading)


class Probe:
    """Methods that vLLM adds to its worker."""

    def corral_held(self):
        """What this rank holds."""
        cache = self.model_runner.kv_cache_config
        groups = [
            {
                "kind": type(group.kv_cache_spec).__name__,
                "layers": len(group.layer_names),
                "page": group.kv_cache_spec.page_size_bytes,
                "block": group.kv_cache_spec.block_size,
            }
            for group in cache.kv_cache_groups
        ]
        pool = max((tensor.size for tensor in cache.kv_cache_tensors), default=0)
        return {"parameters": LOADED[-1], "groups": groups, "blocks": cache.num_blocks, "pool": pool}


def main():
    """Start vLLM with the arguments of the command line and print what it holds."""
    answers = os.dup(1)
    os.dup2(2, 1)
    from vllm import LLM

    llm = LLM(
        load_format="dummy",
        skip_tokenizer_init=True,
        enforce_eager=True,
        disable_log_stats=True,
        worker_extension_cls="vllm_probe.Probe",
        **json.loads(sys.argv[1]),
    )
    ranks = llm.collective_rpc("corral_held")
    config = llm.llm_engine.vllm_config
    with os.fdopen(answers, "w") as out:
        scheduler = {"batch": config.scheduler_config.max_num_batched_tokens, "in_flight": config.max_in_flight_tokens}
        out.write(json.dumps({"ranks": ranks, "scheduler": scheduler}) + "\n")
    os._exit(0)


if __name__ == "__main__":
    main()
