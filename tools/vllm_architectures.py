"""Writes down which architectures an installed vLLM can serve, for `corral.engines.vllm`; run by its own Python.

    ENV/bin/python tools/vllm_architectures.py > src/corral/engines/vllm/architectures.json

Two ways lead to a model in vLLM: an implementation of its own (its registry), and, failing that, the Transformers
library's class where that can take vLLM's attention (vllm/model_executor/models/registry.py,
`_try_resolve_transformers`). Whether an implementation can be cut into pipeline stages is asked of its class.
"""

import json
import sys
from importlib.metadata import version

import transformers
from vllm.model_executor.models.interfaces import supports_pp
from vllm.model_executor.models.registry import ModelRegistry


def registered() -> dict[str, bool | None]:
    """Architecture -> whether it can be a pipeline (None: its code could not be imported here)."""
    known: dict[str, bool | None] = {}
    for name in sorted(ModelRegistry.models):
        try:
            known[name] = supports_pp(ModelRegistry.models[name].load_model_cls())
        except Exception as error:  # noqa: BLE001 - kernels for accelerators are missing where this is run
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
            known[name] = None
    return known


def through_transformers() -> list[str]:
    """Architectures that only the Transformers library knows and that can take vLLM's attention."""
    found = []
    for name in sorted(dir(transformers)):
        if not name.endswith(("ForCausalLM", "ForConditionalGeneration")) or name in ModelRegistry.models:
            continue
        try:
            model = getattr(transformers, name)
            if model.is_backend_compatible() or model._can_set_attn_implementation():  # noqa: SLF001 - as vLLM asks
                found.append(name)
        except Exception as error:  # noqa: BLE001 - a class whose optional packages are missing
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
    return found


def main() -> None:
    """Print the lists as JSON."""
    known = registered()
    lists = {
        "vllm": version("vllm"),
        "transformers": version("transformers"),
        "registered": sorted(known),
        "no_pipeline": sorted(name for name, able in known.items() if able is False),
        "through_transformers": through_transformers(),
    }
    json.dump(lists, sys.stdout, indent=1)
    sys.stdout.write("\n")


main()
