"""The MODEL that a plan is asked for, as the planner takes it; knows no cluster."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.models.parameters import TensorClass
from corral.models.resolve import resolve
from corral.planner.formats import weight_format
from corral.values import Value

_PLAIN: Final = frozenset({"fp32", "bf16", "fp16"})


class PlannedModel(Value):
    """An architecture, and of files that were read what they hold."""

    architecture: ModelArchitecture
    engine: str | None = None  # that reads such files; None: any
    weights: str | None = None  # format that is settled by what was named; None: any that the model is found in
    weights_bytes: int | None = None
    weights_by_class: Mapping[TensorClass, int] = {}
    notes: tuple[str, ...] = ()

    def in_format(self, weights: str) -> "PlannedModel":
        """This model in a format that the user named: other files than those that were read, unless it is theirs.

        BadInput for one that nobody knows, or when none was named and that of the files is not known.
        """
        theirs = _known_format(self.weights) if self.weights else None
        if not weights:
            if self.weights and theirs is None:
                raise BadInput(
                    f"{self.architecture.source} states weights in the format {self.weights!r}, which is not known.",
                    "Say with --quant which it comes nearest to, such as fp8, int8 or awq-int4.",
                )
            return self
        if weight_format(weights).name == theirs:
            return self
        return PlannedModel(architecture=self.architecture, weights=weights, notes=self.notes)


def read_model(text: str, *, estimate: bool = False) -> PlannedModel:
    """Read what the user named: files that are there count first, then the catalog, then the Hub.

    BadInput with near matches when it is none of these, CorralError when the Hub does not answer. `estimate` counts an
    architecture that nobody knows as a plain decoder.
    """
    found = resolve(text, Path.cwd(), estimate=estimate)
    measured: Counter[TensorClass] = Counter()
    if found.weights is not None:
        for part in (*found.weights.layers, found.weights.outside):
            measured.update(part)
    # The data type of a config.json without files says how the original was trained, not what will be run.
    settled = found.format if measured or found.format not in _PLAIN else None
    # GGUF names architectures in small letters ("qwen3moe"), config.json by classes ("Qwen3MoeForCausalLM").
    gguf = not found.architecture.architecture[:1].isupper()
    return PlannedModel(
        architecture=found.architecture,
        engine=("llamacpp" if gguf else "vllm") if measured else None,
        weights=settled,
        weights_bytes=sum(measured.values()) or None,
        weights_by_class=dict(measured),
        notes=found.notes,
    )


def _known_format(name: str) -> str | None:
    """The format's common name; None when nobody knows it."""
    try:
        return weight_format(name).name
    except BadInput:
        return None
