"""What a case makes one rank read, compute and send: bytes, operations, messages; knows no efficiency."""

from dataclasses import dataclass
from typing import Final

from corral.catalog.engines import support
from corral.planner.formats import WeightFormat, kv_format, native_format, weight_format
from corral.planner.speed.anatomy import Anatomy, Cache, anatomy
from corral.planner.speed.engines import engine_family, reads_gguf
from corral.planner.speed.values import SpeedCase, Split

GIB: Final = 2**30


@dataclass(frozen=True, slots=True)
class Group:
    """A collective's ranks: over devices of a node, and over nodes."""

    local: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes and operations of one case, for any batch and context."""

    body: Anatomy
    format: WeightFormat
    tp: int
    pp: int
    ep: int
    dp: int
    group: Group
    star: bool  # all ranks exchange through the first one
    hop_nodes: bool  # stages stand on several nodes
    dense_bytes: float  # weights that every step reads, of one tensor rank, all stages
    head_bytes: float
    experts_bytes: float  # one expert of every expert layer on one rank, times their number: all experts held
    weights_bytes: float  # all weights, of one rank of one stage
    dense_flops: float  # one token, one rank, all stages: linear layers without the head
    head_flops: float
    routed_flops: float
    state_bytes: float  # one sequence, one rank, read and written
    scan_flops: float
    key_bytes: float  # of one cached key value
    value_bytes: float
    peak: float  # operations a second of the format that matrices are multiplied in
    peak16: float  # and of 16 bit, in which attention is computed
    bandwidth: float
    limit: float  # power limit as a share of stock, one at most
    kv_token_bytes: float  # kept for one token by one rank, windows not counted

    def cache_bytes(self, context: float) -> float:
        """Bytes that a step reads of one sequence's cache on one rank, all stages."""
        total = 0.0
        for cache in self.body.caches:
            values = cache.key_values * self.key_bytes + cache.value_values * self.value_bytes
            moved = cache.read(context) * values + cache.kept(context) * cache.index_values
            total += cache.layers * moved / _cache_share(cache, self.tp)
        return total

    def attention_flops(self, context: float) -> float:
        """Operations of one decoded token's attention on one rank."""
        total = 0.0
        for cache in self.body.caches:
            total += cache.layers * cache.read(context) * cache.flops
        return total / self.tp

    def prompt_attention_flops(self, tokens: float, depth: float, *, wide: float = 1.0) -> float:
        """Operations of attention for `tokens` new tokens after `depth` cached ones, on one rank.

        Those of wide heads count as `1 / wide` times as many.
        """
        total = 0.0
        mean = depth + tokens / 2
        for cache in self.body.caches:
            total += cache.layers * tokens * cache.read(mean) * cache.prefill_flops / (wide if cache.wide else 1.0)
        return total / self.tp

    def touched(self, tokens: float) -> float:
        """Share of the experts that `tokens` routed tokens touch, each its own choice: 1 - (1 - k/E)^tokens."""
        share = 0.0
        held = 0.0
        for routed in self.body.routed:
            weight = routed.layers * routed.size * routed.experts
            share += weight * (1.0 - (1.0 - routed.active / routed.experts) ** tokens)
            held += weight
        return share / held if held else 0.0


def _cache_share(cache: Cache, tp: int) -> int:
    """By how much tensor parallelism divides a cache: whole KV heads, never below one a rank."""
    return max(1, min(tp, cache.heads))


def work(case: SpeedCase) -> Work:
    """The work of a case. Raises BadInput for a format that is not known."""
    body = anatomy(case.model)
    gguf = reads_gguf(case.engine)
    if case.weights.strip():
        weights = weight_format(case.weights, gguf=gguf)
    else:
        weights = native_format(case.model.id, gguf=gguf)
    cache = kv_format(case.kv)
    split = case.split
    scale = _scale(case, body, weights)
    device = case.device
    compute = weights.unpacked_in(device) if _unpacked(case, weights) else weights.computes_in(device)
    wide = _wide(case)
    dense = sum(
        getattr(body, name) * weights.bits(name) / 8.0
        for name in ("attention", "recurrent", "mlp", "shared", "router", "norm")
    )
    experts = body.experts * weights.bits("experts") / 8.0
    head = body.head * weights.bits("embedding" if case.model.tied else "head") / 8.0
    tp = split.tp
    ranks = max(tp, split.ep)
    routed = sum(r.layers * r.active * r.size for r in body.routed)
    held = (dense / tp + experts / ranks) * scale / split.pp + head * scale / tp
    return Work(
        body=body,
        format=weights,
        tp=tp,
        pp=split.pp,
        ep=split.ep,
        dp=split.dp,
        group=_group(split),
        star=engine_family(case.engine) == "cpu-cluster",
        hop_nodes=split.nodes > 1,
        dense_bytes=dense * scale / tp,
        head_bytes=head * scale / tp,
        experts_bytes=experts * scale / ranks,
        weights_bytes=held,
        dense_flops=2.0 * (body.dense - body.head) / tp,
        head_flops=2.0 * body.head / tp,
        routed_flops=2.0 * routed / tp,
        state_bytes=2.0 * body.state_bytes / tp,
        scan_flops=body.scan_flops / tp,
        key_bytes=cache.key_bits / 8.0,
        value_bytes=cache.value_bits / 8.0,
        peak=max(device.flops[compute], wide),
        peak16=wide,
        bandwidth=device.bandwidth,
        limit=min(1.0, (case.power_limit or device.power_limit) / device.power_limit),
        kv_token_bytes=sum(
            c.layers
            * (c.key_values * cache.key_bits + c.value_values * cache.value_bits)
            / (8.0 * c.ratio * _cache_share(c, tp))
            for c in body.caches
            if not c.window
        )
        / split.pp,
    )


def _scale(case: SpeedCase, body: Anatomy, weights: WeightFormat) -> float:
    """How much larger the files are than the format says; far from one they hold something else, and it is not used."""
    if case.weights_bytes is None:
        return 1.0
    embedding = 0.0 if case.model.tied else body.head * weights.bits("embedding")
    counted = (
        sum(
            getattr(body, name) * weights.bits(name)
            for name in ("attention", "recurrent", "mlp", "shared", "router", "norm", "experts")
        )
        + body.head * weights.bits("embedding" if case.model.tied else "head")
        + embedding
    ) / 8.0
    scale = case.weights_bytes / counted
    return scale if 0.6 < scale < 1.6 else 1.0


def _unpacked(case: SpeedCase, weights: WeightFormat) -> bool:
    """Whether matrices are multiplied in 16 bit although the device could do it in the weights' own format.

    The catalog knows it of NVFP4, whose kernels engines lack on some devices. Of MXFP4 the format itself does.
    """
    family = engine_family(case.engine)
    if case.weight_only or weights.family != "nvfp4" or family not in {"vllm", "sglang"}:
        return case.weight_only
    version = case.engine_version or ""
    return support(family, version, case.device, weights.name, case.model.architecture).verdict == "emulated"


def _wide(case: SpeedCase) -> float:
    """Operations a second of the fastest format of 16 bit or more: Pascal's 16-bit rate is a sixty-fourth."""
    flops = case.device.flops
    return max((flops[name] for name in ("fp16", "bf16", "fp32") if name in flops), default=1e12)


def _group(split: Split) -> Group:
    """Where a tensor-parallel group's ranks stand, ranks of a group being placed together."""
    devices = split.tp * split.pp * split.dp
    per_node = max(1, devices // max(1, split.nodes))
    local = min(split.tp, per_node)
    return Group(local=local, nodes=max(1, split.tp // local))
