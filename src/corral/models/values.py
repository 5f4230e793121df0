"""What is known of a model once its files were read; knows nothing of where they will run."""

from typing import Literal

from corral.models.architecture import ModelArchitecture
from corral.models.weights import WeightsByClass
from corral.values import Value


class ModelFacts(Value):
    """A model's architecture and files, as read from a GGUF header, or from config.json and safetensors headers.

    Counts are of the whole model. `weights_bytes` is the size of all tensors as stored.
    """

    name: str  # for people and for the API: "qwen3-0.6b", "corral-demo"
    path: str  # the GGUF file (the first of several shards) or the folder, absolute, on the machine that read it
    format: Literal["gguf", "safetensors"]
    files: tuple[tuple[str, int], ...]  # (name relative to the folder, bytes) of every file that an engine needs
    architecture: str  # "llama" (GGUF) or "LlamaForCausalLM" (config.json)
    quantization: str  # "F32", "Q4_K_M", "bfloat16", "awq", "fp8", ...
    weights_bytes: int
    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int  # of the layer that has the most; 1 with latent attention (MLA), whose cache all heads share
    head_dim: int
    context: int  # longest context the model was made for, tokens
    vocabulary: int
    experts: int = 0
    embeds: bool = False  # it embeds; it does not generate
    chat: bool = True  # it has a chat template
    demo: bool = False  # Corral's built-in demonstration model
    embedding_bytes: int = 0  # of weights_bytes: the token embedding; 0: not known
    head_bytes: int = 0  # of weights_bytes: the output head; 0: the embedding serves as head, or not known
    anatomy: ModelArchitecture | None = None  # its layers by kind; None where the files do not say enough of them
    weights: WeightsByClass | None = None  # `weights_bytes` by class and layer; None as above
    kv_values: int = 0  # values that one token adds to the KV cache, all layers; 0: 2 x layers x kv_heads x head_dim

    @property
    def kv_values_per_token(self) -> int:
        """Values that one token adds to the KV cache over all layers, keys and values together."""
        return self.kv_values or 2 * self.layers * self.kv_heads * self.head_dim
