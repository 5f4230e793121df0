"""What a model is made of: its layers by kind, with the sizes that decide memory and speed; knows no file format.

All counts are of the whole model, before any split. Layers are written as kinds, and the order in which they stand as
indices into the kinds, so that a pipeline stage can be cut out.
"""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from corral.values import Value

Count: TypeAlias = Annotated[int, Field(ge=0, le=2**40)]
Size: TypeAlias = Annotated[int, Field(ge=1, le=2**30)]


class Attention(Value):
    """Softmax attention with its own or grouped KV heads; `window` tokens at most are kept when it slides."""

    kind: Literal["attention"] = "attention"
    heads: Size
    kv_heads: Size
    head_dim: Size
    value_dim: Size  # of a value head; equal to head_dim but in few models
    window: Size | None = None  # tokens; None: attends to all
    gated: bool = False  # the query projection also makes an output gate of the same size
    bias: bool = False  # of the q, k and v projections
    output_bias: bool = False
    qk_norm: bool = False
    sinks: bool = False  # one learned logit a head (gpt-oss)
    shares_kv: bool = False  # uses an earlier layer's keys and values: has and keeps none of its own (Gemma 3n, 4)
    values_from_keys: bool = (
        False  # no value projection: values are made of the keys', and cached beside them (Gemma 4)
    )


class LatentAttention(Value):
    """Attention over a compressed cache (MLA): one latent vector and one rotary key a token, shared by all heads."""

    kind: Literal["latent"] = "latent"
    heads: Size
    q_rank: Count  # 0: queries are not compressed
    kv_rank: Size
    rope_dim: Count
    nope_dim: Size
    value_dim: Size
    index_heads: Count = 0  # sparse attention's indexer (DSA); 0: none
    index_dim: Count = 0
    index_topk: Count = 0  # tokens attended to at most; with index_heads 0: those that an earlier layer's indexer chose
    bias: bool = False  # of the projections down to the ranks and of the output projection
    sinks: bool = False  # one learned logit a head
    # DeepSeek V4: heads attend to the cached vector itself (nothing projects it up), of which one stands for `ratio`
    # tokens, beside the last `window` tokens' own; the output is projected in groups through a smaller rank.
    absorbed: bool = False
    ratio: Size = 1
    window: Size | None = None  # tokens; None: no window beside
    window_only: bool = False  # keeps the window and nothing beyond it
    output_groups: Count = 0  # 0: one plain output projection
    output_rank: Count = 0


class Recurrent(Value):
    """A layer whose state does not grow with the context: Mamba, gated delta net, short convolution, lightning."""

    kind: Literal["recurrent"] = "recurrent"
    family: Literal["mamba2", "mamba1", "delta-net", "short-conv", "lightning"]
    parameters: Count
    state_values: Count  # of one sequence, recurrent state (usually kept in 32 bit)
    conv_values: Count = 0  # of one sequence, convolution state (kept in the activations' type)
    heads: Size = 1  # what tensor parallelism must divide


class Mlp(Value):
    """A dense feed-forward layer."""

    kind: Literal["mlp"] = "mlp"
    width: Size
    gated: bool = True  # three matrices; without a gate two
    bias: bool = False


class Experts(Value):
    """A mixture of experts: a router, routed experts of which `active` serve a token, and shared ones."""

    kind: Literal["experts"] = "experts"
    experts: Size
    active: Size
    width: Size  # of one routed expert
    shared_width: Count = 0  # of all shared experts together
    shared_gate: bool = False  # a scalar gate on the shared experts
    latent: Count = 0  # routed experts work in this smaller hidden size (Nemotron 3); 0: in the model's
    gated: bool = True
    bias: bool = False
    parallel_mlp: Count = 0  # width of a dense MLP beside the experts (Gemma 4 MoE); 0: none


Mixer: TypeAlias = Annotated[Attention | LatentAttention | Recurrent, Field(discriminator="kind")]
FeedForward: TypeAlias = Annotated[Mlp | Experts, Field(discriminator="kind")]


class Block(Value):
    """One kind of layer: what mixes tokens, what works on each token; either may be missing (Nemotron-H)."""

    mixer: Mixer | None = None
    feed_forward: FeedForward | None = None
    norms: Count = 2  # norm vectors of hidden size
    extra: Count = 0  # parameters that none of the above counts: per-layer inputs, router corrections, scalars


class ModelArchitecture(Value):
    """A model's anatomy, from config.json, a GGUF header, or the catalog."""

    id: str  # catalog id, or a name made of the file's
    name: str  # for people
    architecture: str  # "Qwen3MoeForCausalLM", or GGUF's "qwen3moe"
    hidden: Size
    vocabulary: Size
    context: Size  # longest the model was made for, tokens
    tied: bool  # the embedding serves as output head
    blocks: tuple[Block, ...]  # the kinds of layers
    order: tuple[int, ...]  # for each layer its kind, an index into blocks
    draft: tuple[Block, ...] = ()  # multi-token-prediction layers (MTP); loaded only when drafting with them
    draft_extra: Count = 0  # parameters of the draft beside its blocks: projections, norms, own embeddings
    vision: Count = 0  # parameters of vision and audio towers and projectors
    extra: Count = 0  # other parameters outside layers: per-layer embeddings, position tables
    source: str  # where it was read from
    notes: tuple[str, ...] = ()  # what is assumed, one sentence each

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.order)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if not self.order or not all(0 <= index < len(self.blocks) for index in self.order):
            msg = "order must name a block for each layer, and at least one"
            raise ValueError(msg)
        return self
