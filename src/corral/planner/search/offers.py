"""Which engines and formats to try for a model on these devices; knows no layout and no memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.catalog.devices import DeviceSpec
from corral.catalog.engines import engine as engine_spec
from corral.catalog.engines import support
from corral.engines.vllm.architectures import architectures
from corral.models.architecture import ModelArchitecture
from corral.planner.formats import kv_format, native_format, weight_format
from corral.planner.plan import Refusal
from corral.planner.search.engines import LAUNCHED, READS_GGUF, READS_MLX, title


@dataclass(frozen=True, slots=True)
class Offer:
    """An engine with a weight format."""

    engine: str
    weights: str
    kv: str
    bits: float  # of a weight on average, experts and dense layers alike
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
        unknown = _architecture_refusal(name, model)
        if unknown is not None:
            refused.append(unknown)
            continue
        for choices in _formats(model, name, devices) if weights is None else ((weights,),):
            found = [_offer(model, name, chosen, kv, devices) for chosen in choices]
            good = next((offer for offer in found if isinstance(offer, Offer)), None)
            if good is not None:
                tried.append(good)
            else:
                refused += [offer for offer in found if isinstance(offer, Refusal)]
    return tuple(tried), tuple(refused)


def _offer(
    model: ModelArchitecture, engine: str, weights: str, kv: str, devices: Sequence[DeviceSpec]
) -> Offer | Refusal:
    """The engine with the format, or why it does not run on some of the devices."""
    found = weight_format(weights, gguf=engine in READS_GGUF)
    notes: dict[str, None] = {}
    for device in devices:
        said = support(engine, "", device, found.name, model.architecture)
        if said.verdict == "no":
            return Refusal(what=f"{title(engine)} with {found.name} weights on {device.name}", why=said.sentence)
        if said.verdict == "emulated":
            notes[said.sentence] = None
    bits = (found.bits("experts") + found.bits("mlp")) / 2
    return Offer(engine=engine, weights=found.name, kv=kv, bits=bits, notes=tuple(notes))


def _architecture_refusal(engine: str, model: ModelArchitecture) -> Refusal | None:
    """Whether vLLM has the model's class; of other engines no list is known."""
    if engine != "vllm" or not model.architecture[:1].isupper():
        return None
    known = architectures()
    if known.serves(model.architecture):
        return None
    return Refusal(what="vLLM", why=f"vLLM {known.vllm} does not know the architecture {model.architecture}.")


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
    """Formats to try; of a group the first that runs here."""
    native = native_format(model.id)
    narrow = min(native.bits("experts"), native.bits("mlp")) < 6
    if engine in READS_GGUF:
        return (("mxfp4",),) if native.name == "mxfp4" else (("q4_k_m",), ("q8_0",))
    if engine in READS_MLX:
        return (("mlx-4bit",), ("mlx-8bit",))
    if narrow:
        return ((native.name,),)
    four = (("awq-int4", "gptq-int4"), *((("nvfp4",),) if all("fp4" in d.matrix for d in devices) else ()))
    if native.name != "bf16":
        return ((native.name,), *four)
    wide = "bf16" if all("bf16" in device.matrix for device in devices) else "fp16"
    return ((wide,), ("fp8", "int8"), *four)
