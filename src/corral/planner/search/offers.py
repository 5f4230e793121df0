"""Which engines and formats to try for a model on these devices; knows no layout and no memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.catalog.devices import DeviceSpec
from corral.catalog.engines import engine as engine_spec
from corral.catalog.engines import support
from corral.engines.vllm.architectures import architectures
from corral.models.architecture import ModelArchitecture
from corral.planner.formats import kv_format, native_format, weight_format
from corral.planner.plan import Refusal
from corral.planner.search.engines import LAUNCHED, READS_GGUF, READS_MLX, title
from corral.planner.search.machines import Machine


@dataclass(frozen=True, slots=True)
class Offer:
    """An engine with a weight format."""

    engine: str
    weights: str
    kv: str
    bits: float  # of a weight on average, experts and dense layers alike
    devices: frozenset[str] = frozenset()  # catalog ids of those of the fleet that it runs on
    notes: tuple[str, ...] = ()


def offers(
    model: ModelArchitecture,
    devices: Sequence[DeviceSpec],
    *,
    engine: str | None,
    weights: str | None,
    kv: str = "auto",
) -> tuple[tuple[Offer, ...], tuple[Refusal, ...]]:
    """What is worth trying, and what is not and why. BadInput for a format or an engine that is not known.

    Without a named format: the one that the model is published in, and what it is commonly quantised to, at about eight
    and about four bits; fewer bits change answers too much to be chosen without being asked for.
    """
    named = engine_spec(engine).id if engine is not None else None
    kv_format(kv)
    tried: list[Offer] = []
    refused: list[Refusal] = []
    for name in _engines(named, weights):
        unknown = _architecture_refusal(name, model) or _cache_refusal(name, kv)
        if unknown is not None:
            refused.append(unknown)
            continue
        for choices in _formats(model, name, devices) if weights is None else ((weights,),):
            covered: frozenset[str] = frozenset()
            for chosen in choices:
                offer, against = _offer(model, name, chosen, kv, devices)
                if offer.devices - covered:
                    tried.append(offer)
                covered |= offer.devices
                refused += against if weights is not None or not offer.devices else ()
                if len(covered) == len({device.id for device in devices}):
                    break
    return tuple(tried), tuple(dict.fromkeys(refused))


def runs_on(offer: Offer, machines: Iterable[Machine]) -> bool:
    """Whether the engine runs the format on every device of these machines."""
    return all(domain.device.id in offer.devices for machine in machines for domain in machine.domains)


def _offer(
    model: ModelArchitecture, engine: str, weights: str, kv: str, devices: Sequence[DeviceSpec]
) -> tuple[Offer, list[Refusal]]:
    """The engine with the format on those devices that it runs on, and why not on the others."""
    found = weight_format(weights, gguf=engine in READS_GGUF)
    notes: dict[str, None] = {}
    runs: set[str] = set()
    refused: list[Refusal] = []
    for device in devices:
        said = support(engine, "", device, found.name, model.architecture)
        if said.verdict == "no":
            refused.append(
                Refusal(what=f"{title(engine)} with {found.name} weights on {device.name}", why=said.sentence)
            )
            continue
        runs.add(device.id)
        if said.verdict == "emulated":
            notes[said.sentence] = None
    bits = (found.bits("experts") + found.bits("mlp")) / 2
    return Offer(engine, found.name, kv, bits, frozenset(runs), tuple(notes)), refused


def _architecture_refusal(engine: str, model: ModelArchitecture) -> Refusal | None:
    """Whether vLLM has the model's class; of other engines no list is known."""
    if engine != "vllm" or not model.architecture[:1].isupper():
        return None
    known = architectures()
    if known.serves(model.architecture):
        return None
    return Refusal(what="vLLM", why=f"vLLM {known.vllm} does not know the architecture {model.architecture}.")


def _cache_refusal(engine: str, kv: str) -> Refusal | None:
    """Whether the engine keeps caches in this format; 16 bit and its own choice every engine has."""
    offered = engine_spec(engine).kv_dtypes
    for part in kv.strip().lower().split("/"):
        wide = part.startswith("auto") or kv_format(part).key_bits == 16
        if not wide and not any(name.startswith(part) or part.startswith(f"{name}_") for name in offered):
            return Refusal(what=f"{title(engine)} with a cache in {part}", why=f"Its caches are {', '.join(offered)}.")
    return None


def stages_allowed(engine: str, model: ModelArchitecture) -> bool:
    """Whether the engine can cut this architecture into pipeline stages."""
    return engine != "vllm" or architectures().pipelines(model.architecture)


def _engines(engine: str | None, weights: str | None) -> tuple[str, ...]:
    if engine is not None:
        return (engine,)
    if weights is None:
        return LAUNCHED
    found = weight_format(weights)
    if found.family.startswith("gguf"):
        return ("llamacpp",)
    if found.family == "mlx":
        return ("mlx",)
    return LAUNCHED if found.name in {"fp32", "fp16", "bf16", "mxfp4"} else ("vllm",)


def _formats(model: ModelArchitecture, engine: str, devices: Sequence[DeviceSpec]) -> tuple[tuple[str, ...], ...]:
    """Formats to try; of a group the first that runs here, and further ones for devices that it does not run on."""
    native = native_format(model.id)
    narrow = min(native.bits("experts"), native.bits("mlp")) < 6
    if engine in READS_GGUF:
        return (("mxfp4",),) if native.name == "mxfp4" else (("q4_k_m",), ("q8_0",))
    if engine in READS_MLX:
        return (("mlx-4bit",), ("mlx-8bit",))
    if narrow:
        return ((native.name,),)
    four = (("awq-int4", "gptq-int4"), *((("nvfp4",),) if any("fp4" in d.matrix for d in devices) else ()))
    if native.name != "bf16":
        return ((native.name,), *four)
    wide = ("bf16", "fp16") if any("bf16" in device.matrix for device in devices) else ("fp16",)
    return (wide, ("fp8", "int8"), *four)
