"""Which model architectures the pinned vLLM serves, as its own code said; knows no model's files.

`architectures.json` is written by `tools/vllm_architectures.py`, run by the environment of the version it names.
"""

import json
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from corral.values import Value

# vLLM serves a base model under the name of its whole: "LlamaModel" as an embedder by "LlamaForCausalLM"
# (vllm/config/model.py, _SUFFIX_TO_DEFAULTS). Longer endings first.
_POOLING_SUFFIXES = (
    "ForTextEncoding", "EmbeddingModel", "ForSequenceClassification", "ForTokenClassification", "ClassificationModel",
    "ForRewardModeling", "RewardModel", "Model",
)  # fmt: skip
_WHOLE_SUFFIXES = ("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel")


class Architectures(Value):
    """What one version of vLLM serves, by the names of config.json's `architectures`."""

    vllm: str
    transformers: str
    registered: frozenset[str]  # implementations of vLLM's own
    no_pipeline: frozenset[str]  # of these, those that cannot be cut into stages
    through_transformers: frozenset[str]  # served by the Transformers library's class, with vLLM's attention

    def serves(self, architecture: str) -> bool:
        """Whether this version can serve the architecture."""
        known = self.registered | self.through_transformers
        return architecture in known or any(name in known for name in _wholes(architecture))

    def pipelines(self, architecture: str) -> bool:
        """Whether it can be cut into pipeline stages; True where that is not known."""
        names = (architecture, *_wholes(architecture))
        implementation = next((name for name in names if name in self.registered), None)
        return implementation not in self.no_pipeline

    def nearest(self, architecture: str) -> tuple[str, ...]:
        """Up to three served architectures of a very similar name."""
        known = sorted(self.registered | self.through_transformers)
        return tuple(get_close_matches(architecture, known, n=3, cutoff=0.9))


def _wholes(architecture: str) -> tuple[str, ...]:
    for suffix in _POOLING_SUFFIXES:
        if architecture.endswith(suffix):
            return tuple(architecture.removesuffix(suffix) + whole for whole in _WHOLE_SUFFIXES)
    return ()


@cache
def architectures() -> Architectures:
    """The list that comes with Corral."""
    text = files("corral.engines.vllm").joinpath("architectures.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return Architectures.model_validate(content)
