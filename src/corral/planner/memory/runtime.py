"""What an engine takes of a rank beside weights and caches: activations, graphs, communication, the process itself."""

from dataclasses import dataclass
from math import ceil

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import Attention, Block, Experts, LatentAttention, Mlp, Recurrent
from corral.planner.memory.anatomy import Anatomy
from corral.planner.memory.engines import Family
from corral.units import MIB


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine is started for: tokens of the largest batch, requests in flight, and how the model is split."""

    batch: int
    requests: int
    tp: int
    stages: int
    activation: int  # bytes of one value
    eager: bool = False


@dataclass(frozen=True, slots=True)
class Runtime:
    """Bytes of one rank of a stage."""

    activations: int
    graphs: int
    communication: int
    framework: int


def runtime(family: Family, anatomy: Anatomy, load: Load, device: DeviceSpec, *, last: bool, first: bool) -> Runtime:
    """What a rank of a stage takes beside weights and caches."""
    width = max(_width(kind.block, anatomy.model.hidden, load.tp) for kind in anatomy.kinds)
    hidden = anatomy.model.hidden
    if family == "llamacpp":
        # 32-bit intermediates of one physical batch; the logits of all its tokens on the last device.
        layer = load.batch * (width + hidden) * 4
        logits = load.batch * (anatomy.model.vocabulary + hidden) * 4 if last else 0
        return Runtime(
            activations=max(layer, logits),
            graphs=0,
            communication=0,
            framework=_llamacpp_process(device, first=first),
        )
    layer = load.batch * (width + 2 * hidden) * load.activation
    logits = load.requests * anatomy.model.vocabulary * (load.activation + 3 * 4) if last else 0
    return Runtime(
        activations=max(layer, logits),
        graphs=_graphs(anatomy, load, device),
        communication=_communication(load, device),
        framework=_vllm_process(device, first=first),
    )


def _width(block: Block, hidden: int, tp: int) -> int:
    """Values that one token has at once within a layer, of one rank."""
    mixer, forward = 0, 0
    match block.mixer:
        case Attention() as attention:
            queries = attention.heads * (attention.head_dim * (2 if attention.gated else 1) + attention.value_dim)
            mixer = ceil(queries / tp) + ceil(attention.kv_heads / tp) * (attention.head_dim + attention.value_dim)
        case LatentAttention() as latent:
            each = 2 * latent.nope_dim + 2 * latent.rope_dim + 2 * latent.value_dim + latent.kv_rank
            mixer = ceil(latent.heads * each / tp) + latent.q_rank + latent.kv_rank + latent.rope_dim
        case Recurrent() as recurrent:
            mixer = ceil(recurrent.parameters / hidden / tp)
        case None:
            pass
    match block.feed_forward:
        case Mlp() as mlp:
            forward = ceil(mlp.width * (3 if mlp.gated else 2) / tp)
        case Experts() as experts:
            routed = experts.active * (3 * ceil(experts.width / tp) + (experts.latent or hidden))
            forward = routed + ceil(3 * (experts.shared_width + experts.parallel_mlp) / tp) + experts.experts
        case None:
            pass
    return max(mixer, forward)


def _graphs(anatomy: Anatomy, load: Load, device: DeviceSpec) -> int:
    """Captured graphs; nothing when eager or on a CPU."""
    if load.eager or device.kind == "cpu":
        return 0
    sizes = max(1, min(2 * load.requests, 512) // 8)
    return 128 * MIB + ceil(anatomy.model.layers / load.stages) * sizes * 64 * 1024


def _communication(load: Load, device: DeviceSpec) -> int:
    """Buffers of the communication library: of one group for tensors, of one for stages."""
    if device.kind == "cpu":
        return 0
    groups = (load.tp > 1) + (load.stages > 1)
    return groups * 384 * MIB


def _vllm_process(device: DeviceSpec, *, first: bool) -> int:
    """The driver's context and libraries; where memory is shared, what the processes hold of it as well."""
    context = 0 if device.kind == "cpu" else 640 * MIB
    if device.kind != "cpu" and not device.unified:
        return context
    # Resident, measured with a tiny model on Linux: a worker 1.7 GB, engine core and API server 0.6 GB each.
    return context + 1700 * MIB + (1200 * MIB if first else 0)


def _llamacpp_process(device: DeviceSpec, *, first: bool) -> int:
    context = 0 if device.kind == "cpu" else 384 * MIB
    if device.kind != "cpu" and not device.unified:
        return context
    return context + 256 * MIB + (128 * MIB if first else 0)
