"""Whether one layout fits and how fast it is: asks the memory and the speed model; chooses nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import ModelArchitecture
from corral.models.parameters import TensorClass, parameters
from corral.planner.formats import weight_format
from corral.planner.memory import MemoryCase, proportional_layers, room, stage_layers, stage_memory
from corral.planner.plan import Workload
from corral.planner.search.degrees import Degrees
from corral.planner.search.engines import READS_GGUF
from corral.planner.search.offers import Offer
from corral.planner.search.shapes import Shape
from corral.planner.search.wires import without_rdma
from corral.planner.speed.engines import batches_stages
from corral.planner.speed.predict import predict
from corral.planner.speed.values import Prediction, Speculation, Speed, SpeedCase, Split, Term
from corral.planner.values import RankMemory

# Every rank's device holds its share of these; embeddings, drafts and towers some engines leave out.
_SPLIT: Final[frozenset[TensorClass]] = frozenset({"attention", "recurrent", "mlp", "experts", "shared"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be run, and for what."""

    model: ModelArchitecture
    work: Workload
    weights_bytes: int | None = None  # of all files, when they were read
    weights_by_class: Mapping[TensorClass, int] = field(default_factory=dict[TensorClass, int])
    power_limit: float | None = None  # watts a device
    speculation: Speculation | None = None
    notes: tuple[str, ...] = ()  # what to know of how the model was read
    _least: dict[str, int] = field(default_factory=dict[str, int], repr=False, compare=False)

    def of_other_files(self) -> "Asked":
        """The same with nothing known of any file: for formats other than those that were read."""
        return replace(self, weights_bytes=None, weights_by_class={}, _least={})

    def least_bytes(self, offer: Offer) -> int:
        """A floor under the bytes of all weights in this format, whatever the split."""
        if offer.weights not in self._least:
            known = sum(self.weights_by_class.values())
            formatted = weight_format(offer.weights)
            counted = sum(
                count * formatted.bits(name) / 8 for name, count in parameters(self.model).items() if name in _SPLIT
            )
            self._least[offer.weights] = int(known * 0.8 if known else counted)
        return self._least[offer.weights]


@dataclass(frozen=True, slots=True)
class Trial:
    """One layout of one offer on one set of machines."""

    shape: Shape
    degrees: Degrees
    offer: Offer
    layers: tuple[int, ...]
    split: Split  # as the memory and the speed model take it: of one replica


def trial(shape: Shape, degrees: Degrees, offer: Offer, layers: tuple[int, ...]) -> Trial:
    """A trial with its split."""
    replica = degrees.replica
    outer = shape.outer
    if outer is not None and offer.engine in READS_GGUF:
        outer = without_rdma(outer)  # llama.cpp's RPC is plain TCP
    # Without validation, as all parts are values already: hundreds are made for one plan.
    split = Split.model_construct(
        tp=replica.tp,
        pp=replica.pp,
        ep=replica.ep,
        dp=replica.dp,
        nodes=shape.islands,
        device_link=shape.inner,
        node_link=outer,
    )
    return Trial(shape, degrees, offer, layers, split)


def requests_each(asked: Asked, degrees: Degrees) -> int:
    """Requests in flight of one replica."""
    return -(-asked.work.concurrency // degrees.replicas)


def memory_case(asked: Asked, trial: Trial) -> MemoryCase:
    """The question to the memory model, of one replica."""
    return MemoryCase(
        model=asked.model,
        split=trial.split,
        engine=trial.offer.engine,
        devices=trial.shape.devices,
        weights=trial.offer.weights,
        context=asked.work.context,
        concurrency=requests_each(asked, trial.degrees),
        kv=trial.offer.kv,
        weights_by_class=asked.weights_by_class,
        layers=trial.layers,
    )


def holds(asked: Asked, trial: Trial) -> tuple[RankMemory, ...] | None:
    """What one rank of each stage holds; None when some rank finds no room on its device."""
    held = stage_memory(memory_case(asked, trial))
    for memory, device in zip(held, trial.shape.devices, strict=True):
        if memory.total > room(device, trial.offer.engine):
            return None
    return held


def layer_choices(asked: Asked, shape: Shape, engine: str) -> tuple[tuple[int, ...], ...]:
    """How the layers may be shared out over the stages, the better way first.

    vLLM shares them evenly. llama.cpp takes any shares: where devices differ more to the faster ones, or, where that
    does not fit, more to the larger ones.
    """
    layers = asked.model.layers
    if shape.pp == 1:
        return ((layers,),)
    if not engine.startswith("llamacpp") or len({id(device) for device in shape.devices}) == 1:
        return (stage_layers(layers, shape.pp),)
    by_speed = proportional_layers(layers, [int(device.bandwidth) for device in shape.devices])
    by_room = proportional_layers(layers, [room(device, engine) for device in shape.devices])
    return tuple(dict.fromkeys((by_speed, by_room, stage_layers(layers, shape.pp))))


def speed_case(asked: Asked, trial: Trial, device: DeviceSpec, limit: float | None) -> SpeedCase:
    """The question to the speed model, of one replica whose ranks all have this device."""
    work, offer = asked.work, trial.offer
    over_network = offer.engine == "llamacpp" and len(trial.shape.machines) > 1
    return SpeedCase.model_construct(  # unchecked, as above
        model=asked.model,
        weights=offer.weights,
        weights_bytes=asked.weights_bytes,
        kv=offer.kv,
        device=device,
        split=trial.split,
        engine="llamacpp-rpc" if over_network else offer.engine,
        speculation=asked.speculation,
        prompt=work.prompt,
        cached=min(work.cached, work.prompt),
        context=work.prompt,
        output=work.output,
        concurrency=requests_each(asked, trial.degrees),
        power_limit=limit,
    )


def speed(asked: Asked, trial: Trial, limit: float | None = None) -> Speed:
    """How fast one replica is; `output` is of all replicas.

    Where stages have different devices each is asked for alone, and their times are put together: a token passes all
    of them in turn; many streams wait for the slowest, where the engine keeps all stages busy.
    """
    limits = [watts for watts in (limit, trial.shape.limit) if watts is not None]
    limit = min(limits, default=None)
    distinct: dict[int, tuple[DeviceSpec, int]] = {}
    for device, layers in zip(trial.shape.devices, trial.layers, strict=True):
        _, before = distinct.get(id(device), (device, 0))
        distinct[id(device)] = device, before + layers
    parts = [(predict(speed_case(asked, trial, device, limit)), layers) for device, layers in distinct.values()]
    found = parts[0][0] if len(parts) == 1 else _together(parts, pipelined=batches_stages(trial.offer.engine))
    replicas = trial.degrees.replicas
    return found if replicas == 1 else found.model_copy(update={"output": _times(found.output, replicas)})


def _together(parts: list[tuple[Speed, int]], *, pipelined: bool) -> Speed:
    """One speed of stages with different devices, by the layers that each kind of device has."""
    whole = sum(layers for _, layers in parts)
    shares = [(found, layers / whole) for found, layers in parts]
    slowest = min(parts, key=lambda part: part[0].output.value)[0]
    terms: dict[tuple[str, str], float] = {}
    for found, share in shares:
        for term in found.terms:
            terms[term.phase, term.name] = terms.get((term.phase, term.name), 0.0) + term.seconds * share
    return Speed(
        decode=_inverse([(found.decode, share) for found, share in shares]),
        prefill=_inverse([(found.prefill, share) for found, share in shares]),
        ttft=_sum([(found.ttft, share) for found, share in shares]),
        tpot=_sum([(found.tpot, share) for found, share in shares]),
        output=slowest.output if pipelined else _inverse([(found.output, share) for found, share in shares]),
        power=slowest.power,
        terms=tuple(Term(phase="decode" if phase == "decode" else "prefill", name=name, seconds=seconds)
                    for (phase, name), seconds in terms.items()),
        warnings=tuple(dict.fromkeys(warning for found, _ in shares for warning in found.warnings)),
    )  # fmt: skip


def _inverse(parts: list[tuple[Prediction, float]]) -> Prediction:
    """Rates of parts that are passed one after another."""
    value, low, high = (1 / sum(share / max(1e-12, getattr(part, name)) for part, share in parts) for name in _BOUNDS)
    return parts[0][0].model_copy(update={"value": value, "low": low, "high": high})


def _sum(parts: list[tuple[Prediction, float]]) -> Prediction:
    value, low, high = (sum(share * getattr(part, name) for part, share in parts) for name in _BOUNDS)
    return parts[0][0].model_copy(update={"value": value, "low": low, "high": high})


def _times(one: Prediction, factor: float) -> Prediction:
    return one.model_copy(update={name: getattr(one, name) * factor for name in _BOUNDS})


_BOUNDS = ("value", "low", "high")
