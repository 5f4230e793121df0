"""What of a model decides its speed: sums over its layers by kind, made once a model; knows no device and no split."""

from dataclasses import dataclass
from typing import Final

from corral.models.architecture import Attention, Block, Experts, LatentAttention, ModelArchitecture, Recurrent
from corral.models.parameters import block_parameters

# Kept in 32 bit by most engines; a state is read and written at each token.
STATE_BYTES: Final = 4.0
CONV_BYTES: Final = 2.0
_FLASH_HEAD: Final = 256  # FlashAttention 2 and 3 take no wider head; engines fall back to slower kernels


@dataclass(frozen=True, slots=True)
class Cache:
    """What layers of one kind keep of each token, and what attending to one cached token costs."""

    layers: int
    key_values: float  # values of keys kept a token and layer (or of the latent)
    value_values: float
    heads: int  # by which tensor parallelism may divide the cache; 1 for a latent
    window: int  # tokens kept at most; 0: all
    attended: int  # tokens attended to at most of those kept (sparse attention); 0: all
    flops: float  # a new token and cached token, decoding
    prefill_flops: float  # the same in a prompt, where a latent is expanded
    index_values: float  # read of every kept token to choose those attended to
    ratio: int = 1  # tokens that one kept vector stands for
    wide: bool = False  # heads of more values than FlashAttention's kernels take

    def kept(self, context: float) -> float:
        """Vectors kept after so many tokens."""
        tokens = min(context, self.window) if self.window else context
        return tokens / self.ratio

    def read(self, context: float) -> float:
        """Vectors that one new token attends to."""
        kept = self.kept(context)
        return min(kept, self.attended) if self.attended else kept


@dataclass(frozen=True, slots=True)
class Routed:
    """Layers with experts of one kind."""

    layers: int
    experts: int
    active: int
    size: float  # parameters of one expert of one layer


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Parameters by class (of all layers), caches, states and counts."""

    hidden: int
    layers: int
    vocabulary: int
    attention: float
    recurrent: float
    mlp: float
    shared: float
    router: float
    norm: float
    experts: float
    head: float
    draft: float
    caches: tuple[Cache, ...]
    routed: tuple[Routed, ...]
    state_bytes: float  # of one sequence
    scan_flops: float  # of one token, in the recurrences themselves
    scan: str  # the recurrence most layers have: "mamba2", "delta-net", ...; "none" without one
    mixers: int
    feed_forwards: int
    recurrent_layers: int
    routed_layers: int

    @property
    def dense(self) -> float:
        """Parameters that every token uses, the head included."""
        return self.attention + self.recurrent + self.mlp + self.shared + self.router + self.norm + self.head

    @property
    def active(self) -> float:
        """Parameters that one token uses."""
        return self.dense + sum(r.layers * r.active * r.size for r in self.routed)

    @property
    def kind(self) -> str:
        """`dense`, `moe`, `hybrid` (recurrent layers), or `hybrid-moe`."""
        hybrid = "hybrid" if self.recurrent_layers else ""
        moe = "moe" if self.routed else ""
        return "-".join(part for part in (hybrid, moe) if part) or "dense"


# By identity: to hash an architecture takes longer than a prediction. The architecture is kept, so that no other gets
# its number.
_KNOWN: Final[dict[int, tuple[ModelArchitecture, "Anatomy"]]] = {}
_KNOWN_MOST: Final = 512


def anatomy(model: ModelArchitecture) -> Anatomy:
    """The sums for a model, kept for the architectures that were asked for last."""
    known = _KNOWN.get(id(model))
    if known is None:
        if len(_KNOWN) >= _KNOWN_MOST:
            _KNOWN.clear()
        known = _KNOWN[id(model)] = (model, _summed(model))
    return known[1]


def _summed(model: ModelArchitecture) -> Anatomy:
    counts = [model.order.count(kind) for kind in range(len(model.blocks))]
    total: dict[str, float] = {}
    for block, count in zip(model.blocks, counts, strict=True):
        for name, parameters in block_parameters(block, model.hidden).items():
            total[name] = total.get(name, 0.0) + parameters * count
    layered = [(b, n) for b, n in zip(model.blocks, counts, strict=True) if n]
    return Anatomy(
        hidden=model.hidden,
        layers=model.layers,
        vocabulary=model.vocabulary,
        attention=total.get("attention", 0.0),
        recurrent=total.get("recurrent", 0.0),
        mlp=total.get("mlp", 0.0),
        shared=total.get("shared", 0.0),
        router=total.get("router", 0.0),
        norm=total.get("norm", 0.0),
        experts=total.get("experts", 0.0),
        head=float(model.hidden * model.vocabulary),
        draft=_draft(model),
        caches=tuple(c for b, n in layered for c in _caches(b, n)),
        routed=tuple(r for b, n in layered if (r := _routed(b, n, model.hidden)) is not None),
        state_bytes=sum(n * _state_bytes(b) for b, n in layered),
        scan=_scan(layered),
        scan_flops=sum(n * 6.0 * b.mixer.state_values for b, n in layered if isinstance(b.mixer, Recurrent)),
        mixers=sum(n for b, n in layered if b.mixer is not None),
        feed_forwards=sum(n for b, n in layered if b.feed_forward is not None),
        recurrent_layers=sum(n for b, n in layered if isinstance(b.mixer, Recurrent)),
        routed_layers=sum(n for b, n in layered if isinstance(b.feed_forward, Experts)),
    )


def _scan(layered: list[tuple[Block, int]]) -> str:
    found: dict[str, int] = {}
    for block, count in layered:
        if isinstance(block.mixer, Recurrent):
            found[block.mixer.family] = found.get(block.mixer.family, 0) + count
    return max(found, key=lambda family: found[family]) if found else "none"


def _caches(block: Block, layers: int) -> tuple[Cache, ...]:
    mixer = block.mixer
    if isinstance(mixer, Attention):
        flops = 2.0 * mixer.heads * (mixer.head_dim + mixer.value_dim)
        whole = Cache(
            layers=layers,
            key_values=mixer.kv_heads * mixer.head_dim,
            value_values=mixer.kv_heads * mixer.value_dim,
            heads=mixer.kv_heads,
            window=mixer.window or 0,
            attended=0,
            flops=flops,
            prefill_flops=flops,
            index_values=0.0,
            wide=mixer.head_dim > _FLASH_HEAD,
        )
        return (whole,)
    return _latent_caches(mixer, layers) if isinstance(mixer, LatentAttention) else ()


def _latent_caches(mixer: LatentAttention, layers: int) -> tuple[Cache, ...]:
    """Of a latent: what is kept of all tokens, and where it slides also the last tokens' own vectors."""
    decoding = 2.0 * mixer.heads * (2 * mixer.kv_rank + mixer.rope_dim)
    expanded = 2.0 * mixer.heads * (mixer.nope_dim + mixer.rope_dim + mixer.value_dim)

    def cache(window: int, attended: int, index: float, ratio: int) -> Cache:
        return Cache(
            layers=layers,
            key_values=mixer.kv_rank + mixer.rope_dim,
            value_values=0.0,
            heads=1,
            window=window,
            attended=attended,
            flops=decoding,
            prefill_flops=decoding if mixer.absorbed else expanded,
            index_values=index,
            ratio=ratio,
        )

    near = (cache(mixer.window, 0, 0.0, 1),) if mixer.window else ()
    if mixer.window_only:
        return near
    return (cache(0, mixer.index_topk, float(mixer.index_dim * bool(mixer.index_heads)), mixer.ratio), *near)


def _routed(block: Block, layers: int, hidden: int) -> Routed | None:
    part = block.feed_forward
    if not isinstance(part, Experts):
        return None
    size = (3.0 if part.gated else 2.0) * (part.latent or hidden) * part.width
    return Routed(layers, part.experts, part.active, size)


def _state_bytes(block: Block) -> float:
    mixer = block.mixer
    return mixer.state_values * STATE_BYTES + mixer.conv_values * CONV_BYTES if isinstance(mixer, Recurrent) else 0.0


def _draft(model: ModelArchitecture) -> float:
    """Parameters that drafting one token reads: of an expert layer only the active ones, and the head."""
    read = 0.0
    for block in model.draft:
        by_class = dict(block_parameters(block, model.hidden))
        experts = by_class.pop("experts", 0)
        part = block.feed_forward
        share = part.active / part.experts if isinstance(part, Experts) else 1.0
        read += sum(by_class.values()) + experts * share
    return read
