"""What Corral computes for a claim, by the kind of claim; knows neither what was claimed nor whether it agrees."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from corral.catalog.boards import board
from corral.catalog.devices import device
from corral.catalog.links import link
from corral.catalog.switches import switch
from corral.errors import CorralError
from corral.models.architecture import Attention, LatentAttention, ModelArchitecture
from corral.models.known import architecture
from corral.models.parameters import parameters
from corral.planner.circuits import CONTINUOUS, HOURS_A_MONTH
from corral.planner.claims.clusters import made
from corral.planner.claims.values import Answer, Kind, MadeCluster
from corral.planner.formats import kv_format, weight_format
from corral.planner.plan import Plan, Workload
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.degrees import parse_degrees
from corral.planner.search.judge import Asked
from corral.planner.speed.values import Prediction, Speculation
from corral.units import format_bytes

Facts = Mapping[str, Any]
Clusters = Mapping[str, MadeCluster]


def answer(kind: Kind, of: Facts, clusters: Clusters) -> Answer:
    """Compute; an error of Corral's own is an answer in words."""
    try:
        return _KINDS[kind](of, clusters)
    except CorralError as error:
        return Answer(text=error.cause)


def _weights(of: Facts, _clusters: Clusters) -> Answer:
    """Bytes of all weights in a format, in GB."""
    model = architecture(of["model"])
    chosen = weight_format(of["quant"])
    total = sum(count * chosen.bits(name) / 8 for name, count in parameters(model).items() if name != "draft")
    return Answer(text=f"{total / 1e9:,.0f} GB", value=total / 1e9)


def _kv_token(of: Facts, _clusters: Clusters) -> Answer:
    """Bytes that one token adds to the cache, in MB."""
    each = cache_bytes(architecture(of["model"]), of.get("kv", "f16"))
    return Answer(text=f"{each:,.0f} B", value=each / 1e6)


def _kv_tokens(of: Facts, _clusters: Clusters) -> Answer:
    """Tokens whose cache fits into so many GB, in thousands."""
    count = of["gb"] * 1e9 / cache_bytes(architecture(of["model"]), of.get("kv", "f16"))
    return Answer(text=f"{count / 1000:,.0f} thousand tokens", value=count / 1000)


def cache_bytes(model: ModelArchitecture, name: str) -> float:
    """Bytes that one token adds to the cache, all layers together; windows are counted as if they held everything."""
    kept, total = kv_format(name), 0.0
    for index in model.order:
        match model.blocks[index].mixer:
            case Attention(shares_kv=False) as attention:
                values = attention.head_dim * kept.key_bits + attention.value_dim * kept.value_bits
                total += attention.kv_heads * values / 8
            case LatentAttention() as latent:
                total += (latent.kv_rank + latent.rope_dim) * kept.key_bits / 8
            case _:
                pass
    return total


def _planned(of: Facts, clusters: Clusters) -> Plan:
    name = of["cluster"]
    prompt, output = of.get("prompt", 2048), of.get("output", 512)
    work = Workload(
        context=of.get("context", prompt + output),
        prompt=prompt,
        output=output,
        concurrency=of.get("concurrency", 1),
        cached=of.get("cached", 0),
    )
    drafting = of.get("speculation")
    asked = Asked(
        model=architecture(of["model"]),
        work=work,
        power_limit=clusters[name].limit,
        speculation=Speculation(**drafting) if drafting else None,
    )
    layout = of.get("layout")
    wishes = Wishes(
        engine=of.get("engine"),
        weights=of["quant"],
        kv=of.get("kv", "auto"),
        layout=parse_degrees(layout) if layout else None,
        top=1,
    )
    return plan(asked, made(name, clusters[name]), wishes)


def _fits(of: Facts, clusters: Clusters) -> Answer:
    found = _planned(of, clusters)
    if found.candidates:
        best = found.candidates[0]
        fullest = max(best.ranks, key=lambda rank: rank.total)
        held = f"{format_bytes(fullest.total)} of {format_bytes(fullest.usable)} a device"
        return Answer(text=f"fits: {best.layout}, {held}", value=True)
    return Answer(text=f"does not fit: {_short(found.why_not or '')}", value=False)


def _short(why: str) -> str:
    """The end of the sentence that says what is lacking."""
    return why.rpartition(": ")[2].rstrip(".")


def _rate(pick: Callable[[Any], Prediction], unit: str) -> "Callable[[Facts, Clusters], Answer]":
    def computed(of: Facts, clusters: Clusters) -> Answer:
        found = _planned(of, clusters)
        if not found.candidates:
            return Answer(text=f"does not fit: {_short(found.why_not or '')}", value=False)
        best = found.candidates[0]
        made_of = pick(best.speed)
        digits = f"{made_of.value:.3g} {unit} ({made_of.low:.3g} to {made_of.high:.3g}), {best.layout}"
        return Answer(text=digits, value=made_of.value, low=made_of.low, high=made_of.high)

    return computed


def _ratio(of: Facts, clusters: Clusters) -> Answer:
    """The rate of one stream as a multiple of that of another layout or cluster; both alike in all else."""
    against: dict[str, Any] = {**of, **of["against"]}
    one, other = (_planned(facts, clusters).candidates for facts in (of, against))
    if not one or not other:
        return Answer(text="one of the two does not fit", value=False)
    rates = [found[0].speed.decode.value for found in (one, other)]
    value = rates[0] / rates[1]
    return Answer(text=f"{value:.2f} times: {rates[0]:.3g} against {rates[1]:.3g} tok/s", value=value)


def _context(of: Facts, clusters: Clusters) -> Answer:
    found = _planned(of, clusters)
    if not found.candidates:
        return Answer(text=f"does not fit: {_short(found.why_not or '')}", value=False)
    most = found.candidates[0].longest_context
    return Answer(text=f"{most:,} tokens", value=float(most))


def _watts(of: Facts, clusters: Clusters) -> Answer:
    found = _planned(of, clusters)
    if not found.candidates:
        return Answer(text=f"does not fit: {_short(found.why_not or '')}", value=False)
    power = found.candidates[0].power
    watts = {"idle": power.idle, "prefill": power.prefill, "decode": power.decode}[of["phase"]]
    return Answer(text=f"{watts:,.0f} W at the wall", value=watts)


def _device(of: Facts, _clusters: Clusters) -> Answer:
    spec = device(of["device"])
    return _field(of["field"], spec.memory, spec.usable, spec.bandwidth, spec.flops, spec.power_limit)


def _devices(of: Facts, clusters: Clusters) -> Answer:
    """A field of all devices of a cluster together."""
    words = clusters[of["cluster"]]
    spec, count = device(words.device), words.nodes * sum(words.domains)
    flops = {name: rate * count for name, rate in spec.flops.items()}
    return _field(
        of["field"], spec.memory * count, spec.usable * count, spec.bandwidth * count, flops, spec.power_limit * count
    )


def _field(
    name: str, memory: float, usable: float, bandwidth: float, flops: Mapping[Any, float], watts: float
) -> Answer:
    values = {
        "memory": (memory / 1e9, "GB"),
        "memory-gib": (memory / 2**30, "GiB"),
        "usable-gib": (usable / 2**30, "GiB"),
        "bandwidth": (bandwidth / 1e9, "GB/s"),
        "power": (watts, "W"),
    } | {kind: (rate / 1e12, "TFLOPS") for kind, rate in flops.items()}
    if name not in values:
        return Answer(text="it does not compute in this format", value=False)
    value, unit = values[name]
    return Answer(text=f"{value:,.4g} {unit}", value=value)


def _link(of: Facts, _clusters: Clusters) -> Answer:
    spec = link(of["link"])
    value, unit = {
        "bandwidth": (spec.bandwidth / 1e9, "GB/s"),
        "rate": (spec.line_rate / 1e9, "GB/s"),
        "both-ways": (2 * spec.line_rate / 1e9, "GB/s, both directions"),
        "latency": (spec.latency * 1e6, "us"),
    }[of["field"]]
    return Answer(text=f"{value:,.4g} {unit}", value=value)


def _board(of: Facts, _clusters: Clusters) -> Answer:
    spec = board(of["board"])
    if of["field"] == "domain":
        largest = max((len(domain.devices) for domain in spec.domains), default=1)
        return Answer(text=f"{largest} devices in one domain", value=float(largest))
    value = {"supply": spec.power_supply, "rest": spec.power_rest, "devices": spec.count}[of["field"]]
    return Answer(text=f"{value:,.0f}" if value is not None else "not known", value=value)


def _switch(of: Facts, _clusters: Clusters) -> Answer:
    spec = switch(of["switch"])
    if of["field"] == "nodes":
        count = spec.nodes_at(of["gigabits"] * 1e9 / 8)
        return Answer(text=f"{count} nodes", value=float(count))
    if of["field"] == "price":
        if spec.price_low is None:
            return Answer(text="no price known")
        high = spec.price_high or spec.price_low
        return Answer(
            text=f"{spec.price_low:,.0f} to {high:,.0f} USD", value=spec.price_low, low=spec.price_low, high=high
        )
    return Answer(text=f"at most {spec.power_max:,.0f} W", value=spec.power_max)


def _sum(of: Facts, _clusters: Clusters) -> Answer:
    total = float(sum(of["parts"]))
    return Answer(text=f"{total:,.0f}", value=total)


def _month(of: Facts, _clusters: Clusters) -> Answer:
    cost = of["watts"] / 1000 * HOURS_A_MONTH * of["price"]
    return Answer(text=f"{cost:,.0f} USD in {HOURS_A_MONTH:.0f} hours", value=cost)


def _circuit(of: Facts, _clusters: Clusters) -> Answer:
    """The load as a share of what the breaker is rated for, in per cent."""
    rating = of["volts"] * of["amps"]
    share = of["watts"] / rating * 100
    return Answer(
        text=f"{share:.0f} % of {rating:,.0f} W; {rating * CONTINUOUS:,.0f} W may be drawn for hours", value=share
    )


def _arithmetic(of: Facts, _clusters: Clusters) -> Answer:
    return Answer(text=f"{of['value']:,g}: {of['formula']}", value=float(of["value"]))


def _elsewhere(of: Facts, _clusters: Clusters) -> Answer:
    return Answer(text=of.get("text", "not computed"), value=of.get("value"))


_KINDS: Final[Mapping[Kind, Callable[[Facts, Clusters], Answer]]] = {
    "weights": _weights,
    "kv-token": _kv_token,
    "kv-tokens": _kv_tokens,
    "decode": _rate(lambda speed: speed.decode, "tok/s"),
    "prefill": _rate(lambda speed: speed.prefill, "tok/s"),
    "ttft": _rate(lambda speed: speed.ttft, "s"),
    "output": _rate(lambda speed: speed.output, "tok/s"),
    "ratio": _ratio,
    "fits": _fits,
    "context": _context,
    "watts": _watts,
    "device": _device,
    "devices": _devices,
    "link": _link,
    "board": _board,
    "switch": _switch,
    "sum": _sum,
    "month": _month,
    "circuit": _circuit,
    "arithmetic": _arithmetic,
    "elsewhere": _elsewhere,
}
