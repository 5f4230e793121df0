"""Bytes by rank of a model on a layout, part by part, as the engine will take them; knows no node and no process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import Attention, LatentAttention, ModelArchitecture
from corral.models.parameters import TensorClass
from corral.models.weights import WeightsByClass
from corral.planner.formats import kv_format, weight_format
from corral.planner.memory.anatomy import Anatomy, anatomy_of
from corral.planner.memory.blocks import Pool, Terms, pool
from corral.planner.memory.case import MemoryCase
from corral.planner.memory.cells import Slots, cell_bytes, stage_cells
from corral.planner.memory.runtime import Load, runtime
from corral.planner.memory.weights import Holding, stage_weights, stock_of
from corral.planner.speed.values import Split
from corral.planner.values import RankMemory


def rank_memory(
    model: ModelArchitecture,
    split: Split,
    *,
    engine: str,
    device: DeviceSpec | Sequence[DeviceSpec],
    weights: str,
    weights_by_class: Mapping[TensorClass, int] | WeightsByClass | None = None,
    kv: str = "auto",
    context: int,
    concurrency: int,
    layers: Sequence[int] = (),
    batch: int = 0,
    block: int = 0,
    eager: bool = False,
    draft: bool = False,
) -> tuple[RankMemory, ...]:
    """What each rank takes in bytes, in rank order: replica by replica, stage by stage, tensor-parallel rank by rank.

    `device` is that of all ranks, or of each stage in turn; the other arguments are MemoryCase's. Ranks of one stage
    share one value. BadInput for a format that is not known.
    """
    case = MemoryCase(
        model=model,
        split=split,
        engine=engine,
        devices=(device,) * split.pp if isinstance(device, DeviceSpec) else tuple(device),
        weights=weights,
        weights_by_class=weights_by_class,
        kv=kv,
        context=context,
        concurrency=concurrency,
        layers=tuple(layers),
        batch=batch,
        block=block,
        eager=eager,
        draft=draft,
    )
    stages = stage_memory(case)
    return tuple(stage for stage in stages for _ in range(split.tp)) * split.dp


def stage_memory(case: MemoryCase) -> tuple[RankMemory, ...]:
    """What one rank of each stage takes."""
    anatomy, family, layers = anatomy_of(case.model), case.family, case.stage_layers
    load = Load(
        batch=case.batch_tokens,
        requests=case.requests,
        tp=case.split.tp,
        stages=case.split.pp,
        activation=_activation_bytes(case),
        ep=case.split.ep,
        eager=case.eager,
        cells=_mask_cells(case, anatomy) if family == "llamacpp" else 0,
    )
    caches = _blocks(case) if family == "vllm" else _cells(case, anatomy)
    stock = stock_of(case.weights_by_class) if case.weights_by_class else None
    stages: list[RankMemory] = []
    for stage, (device, cache) in enumerate(zip(case.devices, caches, strict=True)):
        discrete = device.kind != "cpu" and not device.unified
        llamacpp = family == "llamacpp"
        holding = Holding(llamacpp=llamacpp, host_embedding=llamacpp and discrete, draft=case.draft)
        held = stage_weights(anatomy, layers, case.split.tp, case.split.ep, holding, case.weights, stock)[stage]
        beside = runtime(family, anatomy, load, device, first=stage == 0, last=stage == case.split.pp - 1)
        stages.append(
            RankMemory(
                by_class={**held.by_class},
                kv=cache.kv,
                state=cache.state,
                activations=beside.activations,
                graphs=beside.graphs,
                communication=beside.communication,
                framework=beside.framework,
                host=held.host,
            )
        )
    return tuple(stages)


@dataclass(frozen=True, slots=True)
class _Cache:
    """Bytes of one rank of a stage."""

    kv: int
    state: int


def _activation_bytes(case: MemoryCase) -> int:
    """Bytes of one value of the activations: vLLM computes in 16 bit unless all weights are wider."""
    return 4 if case.family == "vllm" and weight_format(case.weights).name == "fp32" else 2


def _blocks(case: MemoryCase) -> list[_Cache]:
    """Each stage's caches with vLLM's pool: every request's blocks, and the one that it keeps to itself."""
    shared = cache_pool(case)
    state = shared.blocks(case.context, "state") * case.requests
    blocks = shared.blocks(case.context) * case.requests + 1
    return [_Cache(kv=(blocks - state) * size, state=state * size) for size in shared.block_bytes]


def cache_pool(case: MemoryCase) -> Pool:
    """What groups and blocks vLLM's cache has in a case."""
    anatomy, activation = anatomy_of(case.model), _activation_bytes(case)
    kept = "f32" if case.kv == "auto" and activation == 4 else case.kv
    latent = any(kind.kv_heads == 0 for kind in anatomy.kinds)
    terms = Terms(
        kv=kv_format(kept),
        block=case.block or _default_block(case, latent=latent),
        tp=case.split.tp,
        activation=activation,
        in_flight=_batches_in_flight(case) * case.batch_tokens,
        draft=case.draft,
    )
    return pool(anatomy, case.stage_layers, terms)


def _batches_in_flight(case: MemoryCase) -> int:
    """Batches that are scheduled before the first is done: one a stage, and one more where scheduling runs ahead.

    As vLLM 0.32 has it (config/vllm.py, max_concurrent_batches; platforms/cpu.py schedules in step).
    """
    return case.split.pp + (case.devices[0].kind != "cpu")


def _default_block(case: MemoryCase, *, latent: bool) -> int:
    """Tokens of a block, as vLLM 0.32 has them: config/cache.py, platforms/cpu.py; FlashMLA's: platforms/cuda.py."""
    if case.devices[0].kind == "cpu":
        return 16 if latent else 128
    return 64 if latent else 16


def _slots(case: MemoryCase) -> Slots:
    return Slots(context=case.context, slots=case.requests, batch=case.batch_tokens)


def _mask_cells(case: MemoryCase, anatomy: Anatomy) -> int:
    """Cells that one token's mask covers, in layers that keep everything and in those that keep a window."""
    slots = _slots(case)
    attending = [
        kind.block.mixer for kind in anatomy.kinds if isinstance(kind.block.mixer, Attention | LatentAttention)
    ]
    windows = {mixer.window or 0 for mixer in attending} or {0}
    return sum((slots.window_cells(window) if window else slots.cells) // slots.slots for window in windows)


def _cells(case: MemoryCase, anatomy: Anatomy) -> list[_Cache]:
    """Each stage's caches with llama.cpp's slots."""
    slots = _slots(case)
    held = stage_cells(anatomy, case.stage_layers, kv_format(case.kv), case.split.tp, draft=case.draft)
    return [_Cache(kv=cell_bytes(cells, slots), state=cells.state * case.requests) for cells in held]
