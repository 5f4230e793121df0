"""Bytes of a model's weights by tensor class and layer, measured from the headers of its files; knows no engine.

Tensors are sorted by name: those of GGUF (gguf-py's constants) and those of Hugging Face checkpoints.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from corral.models.gguf import Header
from corral.models.parameters import TensorClass
from corral.values import Value

_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|blk)\.(\d{1,6})\.")
_TOWER: Final = re.compile(
    r"^(?:v|mm|a|resampler)\.|(?:^|\.)(?:visual|vision|vit|audio|multi_modal|mm_projector|patch_merger|embed_vision|embed_audio"
    r"|vision_\w+|audio_\w+|aligner|img_\w+|image_\w+)(?:[._]|$)"
)
_DRAFT: Final = re.compile(r"(?:^|\.)(?:mtp|nextn|draft)\w*(?:\.|$)")
# Of a layer's tensor, or of one outside: the first that is found decides.
_INSIDE: Final[tuple[tuple[re.Pattern[str], TensorClass], ...]] = (
    (re.compile(r"shared_expert|shexp|shared_mlp|latent|share_expert"), "shared"),
    (re.compile(r"_exps\b|(?:^|\.)experts\.|block_sparse_moe\.(?:in|out)put_linear"), "experts"),
    (
        re.compile(
            r"ffn_gate_inp|exp_probs_b|(?:^|[._])router(?:\.|$)|(?:^|\.)gate\.(?:weight|bias|e_score|tid2eid)"
            r"|e_score_corr|expert_bias"
        ),
        "router",
    ),
    (
        re.compile(r"linear_attn|mamba|ssm_|shortconv|time_mix|A_log|dt_bias|(?:^|\.)D$|(?:^|\.)conv(?:1d)?\."),
        "recurrent",
    ),
    (
        re.compile(r"norm|layer_output_scale|layer_scalar|(?:^|\.)scale$|inp_gate|per_layer|hc[_.]|compressor"),
        "norm",
    ),
    (re.compile(r"attn|attention|indexer|[qkvo]_proj|sinks"), "attention"),
    (re.compile(r"mixer\.(?:in_proj|out_proj)"), "recurrent"),
    (re.compile(r"ffn|mlp|feed_forward|(?:up|down|gate|gate_up|fc[12])_proj|\.w[123]\b|block_sparse_moe"), "mlp"),
)
_OUTSIDE: Final[tuple[tuple[re.Pattern[str], TensorClass], ...]] = (
    (re.compile(r"per_layer"), "embedding"),
    (re.compile(r"norm"), "norm"),
    (re.compile(r"lm_head|(?:^|\.)output\.|embed_out|(?:^|\.)head\."), "head"),
    (re.compile(r"embd|embed|wte|wpe|rope|tokens"), "embedding"),
)


class WeightsByClass(Value):
    """Bytes of weights as stored: of each layer, and of what stands outside of layers, by class."""

    layers: tuple[Mapping[TensorClass, int], ...]
    outside: Mapping[TensorClass, int]  # embedding, head, last norm; the draft and the towers with all they have

    @property
    def total(self) -> int:
        """Bytes of all tensors."""
        return sum(sum(layer.values()) for layer in self.layers) + sum(self.outside.values())

    def of(self, kind: TensorClass) -> int:
        """Bytes of one class over the whole model."""
        return sum(layer.get(kind, 0) for layer in self.layers) + self.outside.get(kind, 0)


def tensor_class(name: str, layers: int) -> tuple[TensorClass, int | None]:
    """The class of a tensor and the layer that it is in; a model's layers past `layers` are its draft."""
    if _TOWER.search(name):
        return "vision", None
    if _DRAFT.search(name):
        return "draft", None
    found = _LAYER.search(name)
    if found is None:
        return _first(name, _OUTSIDE, "norm"), None
    layer = int(found[1])
    return (_first(name[found.end() :], _INSIDE, "norm"), layer) if layer < layers else ("draft", None)


def _first(name: str, rules: Sequence[tuple[re.Pattern[str], TensorClass]], otherwise: TensorClass) -> TensorClass:
    for pattern, kind in rules:
        if pattern.search(name):
            return kind
    return otherwise


def weights_by_class(
    tensors: Iterable[tuple[str, int]], layers: int, *, linear: frozenset[int] = frozenset()
) -> WeightsByClass:
    """Sort tensors, given by name and bytes. In the layers `linear`, what is called attention belongs to the state."""
    inside: list[Counter[TensorClass]] = [Counter() for _ in range(layers)]
    outside: Counter[TensorClass] = Counter()
    for name, size in tensors:
        kind, layer = tensor_class(name, layers)
        if layer is None:
            outside[kind] += size
        else:
            inside[layer]["recurrent" if kind == "attention" and layer in linear else kind] += size
    return WeightsByClass(layers=tuple(dict(layer) for layer in inside), outside=dict(outside))


def gguf_weights(headers: Sequence[Header], layers: int) -> WeightsByClass:
    """The bytes that a GGUF model's headers, those of all parts, state. `layers` are the model's without its draft."""
    tensors = [tensor for header in headers for tensor in header.tensors]
    linear = frozenset(
        int(found[1])
        for tensor in tensors
        if (".ssm_" in tensor.name or ".shortconv." in tensor.name) and (found := _LAYER.search(tensor.name))
    )
    return weights_by_class(((tensor.name, tensor.bytes) for tensor in tensors), layers, linear=linear)
