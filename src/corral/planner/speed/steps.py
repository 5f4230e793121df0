"""The time of one decode step and of one prompt, by terms that add up; knows no queue and no table of figures."""

import math
from typing import TypeAlias

from corral.catalog.links import LinkSpec
from corral.planner.speed.rates import Rates
from corral.planner.speed.work import Work

Terms: TypeAlias = dict[str, float]  # name of a term -> seconds

ACTIVATION_BYTES = 2.0  # activations travel in 16 bit


def soft_max(a: float, b: float) -> float:
    """A smooth maximum: what a roofline does where reading and computing overlap."""
    high, low = (a, b) if a >= b else (b, a)
    return high if low <= 0.0 else high * (1.0 + (low / high) ** 4) ** 0.25


def reading_rate(work: Work, rates: Rates) -> float:
    """Bytes of dense weights a second."""
    wide = (work.body.hidden / 4096.0) ** rates.width
    return float(_memory_rate(work, rates) * rates.read * wide * (5e11 / work.bandwidth) ** rates.swift)


def _memory_rate(work: Work, rates: Rates) -> float:
    """The memory's bandwidth, less what a power limit takes from it."""
    return work.bandwidth if work.limit == 1.0 else work.bandwidth * work.limit**rates.power_read


def _computing_share(work: Work, rates: Rates) -> float:
    """What a power limit leaves of the rates of arithmetic."""
    return 1.0 if work.limit == 1.0 else work.limit**rates.power


def decode_step(
    work: Work,
    rates: Rates,
    links: tuple[LinkSpec | None, LinkSpec | None],
    *,
    sequences: float,
    context: float,
    tokens: float = 1.0,
    busy: float = 1.0,
) -> Terms:
    """Seconds by term that one step of `sequences` takes through all stages, each sequence with `tokens` tokens.

    `tokens` above one is verification of a draft. Weights are read once a step; of the experts those that the
    batch's tokens touch. A device that is `busy` for a part of the time, since its stage waits for the others, runs
    cooler and clocks higher.
    """
    body = work.body
    batch = sequences * tokens
    rested = 1.0 + rates.rested * (1.0 - busy)
    bandwidth = reading_rate(work, rates) * rested
    clock = _computing_share(work, rates)
    peak = work.peak * rates.compute * clock
    dense = work.dense_bytes / bandwidth
    head = work.head_bytes / bandwidth
    routed = 0.0
    if body.routed:
        routed = work.experts_bytes * work.touched(batch**rates.spread) / (bandwidth * rates.read_experts)
    reading = dense + head + routed
    computing = batch * (work.dense_flops + work.head_flops + work.routed_flops) / peak
    moved = work.cache_bytes(context) + work.state_bytes * rates.state
    cache = sequences * moved / (_memory_rate(work, rates) * rates.read_cache * rested)
    attention = batch * work.attention_flops(context) / (work.peak16 * rates.mfu_attention * clock)
    halves = body.mixers + body.feed_forwards
    terms: Terms = {
        "weights: dense": dense,
        "weights: head": head,
        "weights: experts": routed,
        "computing": soft_max(reading, computing) - reading,
        "kv cache and state": soft_max(cache, attention),
        "per-layer overhead": rates.layer * halves
        + rates.recurrent * body.recurrent_layers
        + rates.routed * body.routed_layers,
        "per-step overhead": rates.step + rates.sequence * sequences,
    }
    _communication(terms, work, rates, links, batch, messages=1.0)
    return terms


def prompt_time(
    work: Work,
    rates: Rates,
    links: tuple[LinkSpec | None, LinkSpec | None],
    *,
    tokens: float,
    depth: float,
    chunk: float,
    prompts: float = 1.0,
    flight: float = math.inf,
) -> Terms:
    """Seconds by term for prompts of `tokens` new tokens after `depth` cached ones, in chunks, through all stages.

    With several stages, up to `flight` chunks follow each other through them: the last one has to pass all.
    """
    body = work.body
    clock = _computing_share(work, rates)
    attended = prompts * work.prompt_attention_flops(tokens, depth, wide=rates.wide)
    attention = attended / (work.peak16 * rates.mfu_attention * clock)
    tokens *= prompts
    chunks = max(1.0, tokens / chunk)
    size = tokens / chunks
    best = work.peak * rates.mfu * clock * (1e14 / work.peak16) ** rates.scale
    peak = best * size / (size + rates.half * 4096.0 / body.hidden)
    dense = tokens * work.dense_flops / peak + prompts * work.head_flops / best
    routed = tokens * work.routed_flops / (peak * rates.mfu_experts)
    scan = tokens * work.scan_flops / (work.peak16 * rates.scan * clock)
    touched = work.experts_bytes * work.touched(size**rates.spread) / rates.read_experts if body.routed else 0.0
    reading = chunks * (work.dense_bytes + work.head_bytes + touched) / reading_rate(work, rates)
    halves = body.mixers + body.feed_forwards
    terms: Terms = {
        "matrices: dense": dense,
        "matrices: experts": routed,
        "reading weights": soft_max(dense + routed, reading) - dense - routed,
        "attention": attention,
        "recurrence": scan,
        "per-layer overhead": rates.layer_prompt * halves * chunks,
    }
    _communication(terms, work, rates, links, tokens, messages=chunks)
    if work.pp > 1:
        filled = (1.0 + (work.pp - 1) / min(chunks, flight)) / work.pp
        terms = {name: seconds * filled for name, seconds in terms.items()}
    return terms


def _communication(
    terms: Terms,
    work: Work,
    rates: Rates,
    links: tuple[LinkSpec | None, LinkSpec | None],
    tokens: float,
    *,
    messages: float,
) -> None:
    """Adds all-reduces of tensor parallelism, all-to-all of expert parallelism, hand-offs of pipeline stages."""
    body = work.body
    device_link, node_link = links
    size = tokens * body.hidden * ACTIVATION_BYTES
    group = work.group
    if work.tp > 1:
        calls = body.mixers + body.feed_forwards + 1
        seconds = 0.0
        if group.local > 1:
            seconds += _all_reduce(device_link, rates, group.local, size, messages, star=work.star)
        if group.nodes > 1:
            seconds += _all_reduce(node_link or device_link, rates, group.nodes, size, messages, star=work.star)
        slowest = node_link if group.nodes > 1 and node_link else device_link
        terms[f"all-reduce over {slowest.id if slowest else 'device link'}"] = calls * seconds
    if work.ep > 1 and body.routed:
        link = node_link or device_link
        active = sum(r.layers * r.active for r in body.routed) / body.routed_layers
        moved = size * min(active, work.ep) * (work.ep - 1) / work.ep / max(1, work.tp)
        terms["all-to-all"] = body.routed_layers * 2.0 * _message(link, rates, moved, messages)
    if work.pp > 1:
        link = node_link if work.hop_nodes and node_link else device_link
        terms["hand-off"] = (work.pp - 1) * (
            _wire_seconds(link, rates, size) + messages * rates.hop * (link.latency if link else 5e-6)
        )


def _all_reduce(link: LinkSpec | None, rates: Rates, ranks: int, size: float, messages: float, *, star: bool) -> float:
    """One all-reduce: latency grows with the logarithm of the ranks, traffic as in a ring, 2 (n - 1) / n.

    In a star the first rank's link carries everybody's, 2 (n - 1).
    """
    rounds = 0.5 + 0.5 * ranks.bit_length()
    latency = link.latency if link else 5e-6
    fixed = rates.collective + rates.latency * latency * rounds
    return messages * fixed + _wire_seconds(link, rates, size * 2.0 * (ranks - 1) / (1 if star else ranks))


def _message(link: LinkSpec | None, rates: Rates, size: float, messages: float) -> float:
    fixed = rates.collective + rates.latency * (link.latency if link else 5e-6)
    return messages * fixed + _wire_seconds(link, rates, size)


def _wire_seconds(link: LinkSpec | None, rates: Rates, size: float) -> float:
    return size / ((link.bandwidth if link else 20e9) * rates.wire)
