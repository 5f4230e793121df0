"""What an engine takes of a rank beside weights and caches: activations, graphs, communication, the process itself.

Activations follow the buffers that live at once in the widest layer. Their counts were found by starting llama.cpp 0.6
on models whose sizes were varied one at a time, and hold for vLLM's profile run as it is told in public logs; the page
on memory in the documentation has the table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Final

from corral.catalog.devices import DeviceSpec
from corral.models.architecture import Attention, Block, Experts, LatentAttention, Mlp, Recurrent
from corral.planner.memory.anatomy import Anatomy
from corral.planner.memory.engines import Family
from corral.units import MIB

# Residual, its sum, the normed input and two more of hidden size are alive while the widest part of a layer computes.
_HIDDEN_COPIES: Final = 5
# Bytes of one request's row of logits, for each word of the vocabulary, in the sampler's run while vLLM profiles:
# logits in 16 and 32 bit, sorted with their indices, probabilities and their sums. Public logs of models whose layers
# are small against it have 1.4 GiB for 256 requests and 151,936 words, and 1.2 GiB for 128,256.
_LOGIT_BYTES: Final = 38
# Tokens of the largest picture in public logs ("Encoder cache will be initialized with a budget of 16384 tokens"), and
# how many times their size the tower's own intermediates take; estimated.
_PICTURE_TOKENS: Final = 16384
_TOWER_COPIES: Final = 4
# A captured graph: public logs have 0.68 GiB for 67 graphs (vLLM 0.10) and 0.23 GiB for 86 (0.31).
_GRAPH_BYTES: Final = 6 * MIB
# NCCL's buffers of one group, as aiconfigurator has them for 2 and for more ranks (systems/*.yaml, nccl_mem).
_NCCL_PAIR: Final = 358612992
_NCCL_GROUP: Final = 411041792
# Workspaces of vLLM's own all-reduce kernels; public logs have 0.5 GiB with NCCL over PCIe, 0.7 to 1.6 with NVLink.
_REDUCE: Final = 128 * MIB
_REDUCE_NVLINK: Final = 512 * MIB
# Resident, measured with a tiny model on Linux without a GPU: vLLM's worker, its engine core and API server together,
# llama.cpp's server. On a discrete device: what vLLM calls non-torch memory (0.07 to 0.26 GiB in public logs).
_VLLM_WORKER: Final = 1700 * MIB
_VLLM_SERVER: Final = 1200 * MIB
_VLLM_CONTEXT: Final = 256 * MIB
_LLAMACPP_SERVER: Final = 128 * MIB
_LLAMACPP_CONTEXT: Final = 512 * MIB  # CUDA's context and the pool that its matrix products use; estimated
_COPIES_OF_INPUTS: Final = 4  # ggml's pipeline of devices: GGML_SCHED_MAX_COPIES


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine is started for: tokens of the largest batch, requests in flight, and how the model is split."""

    batch: int
    requests: int
    tp: int
    stages: int
    activation: int  # bytes of one value
    ep: int = 1
    eager: bool = False
    cells: int = 0  # llama.cpp: cells of a sequence in layers that keep everything and in those that keep a window


@dataclass(frozen=True, slots=True)
class Runtime:
    """Bytes of one rank of a stage."""

    activations: int
    graphs: int
    communication: int
    framework: int


def runtime(family: Family, anatomy: Anatomy, load: Load, device: DeviceSpec, *, first: bool, last: bool) -> Runtime:
    """What a rank of a stage takes beside weights and caches."""
    if family == "llamacpp":
        return Runtime(
            activations=_llamacpp_compute(anatomy, load, device),
            graphs=0,
            communication=0,
            framework=_llamacpp_process(device, first=first),
        )
    layer = load.batch * load.activation * _widest(anatomy, load.tp, _vllm_width)
    rows = min(load.requests, load.batch)
    logits = rows * anatomy.model.vocabulary * _LOGIT_BYTES * last
    pictures = _pictures(anatomy, load, device)
    return Runtime(
        activations=max(layer, logits, _TOWER_COPIES * pictures) + pictures,
        graphs=_graphs(load, device),
        communication=_communication(load, device),
        framework=_vllm_process(device, first=first),
    )


@lru_cache(maxsize=1024)
def _widest(anatomy: Anatomy, tp: int, width: Callable[[Block, int, int], int]) -> int:
    """Values that one token has at once in the layer where they are most, of one rank."""
    hidden = anatomy.model.hidden
    return _HIDDEN_COPIES * hidden + max(width(kind.block, hidden, tp) for kind in anatomy.kinds)


def _vllm_width(block: Block, hidden: int, tp: int) -> int:
    """vLLM: projections and what follows them; of experts two workspaces for all tokens' choices (fused_moe)."""
    match block.mixer:
        case Attention() as attention:
            mixer = _queries(attention, tp) + _share(attention.heads * attention.value_dim, tp)
        case LatentAttention() as latent:
            head = 2 * (latent.nope_dim + latent.rope_dim) + 2 * latent.value_dim + latent.nope_dim
            mixer = _share(latent.heads * head, tp)
        case Recurrent() as recurrent:
            mixer = _share(2 * recurrent.parameters // hidden, tp)
        case None:
            mixer = 0
    match block.feed_forward:
        case Experts() as experts:
            width = _share(experts.width, tp)
            forward = experts.active * (max(2 * width, experts.latent or hidden) + width)
        case Mlp() as mlp:
            forward = _share(mlp.width * (3 if mlp.gated else 2), tp)
        case None:
            forward = 0
    return max(mixer, forward)


def _llamacpp_width(block: Block, hidden: int, tp: int) -> int:
    """llama.cpp: as found by varying heads, widths and experts of models on the CPU with flash attention."""
    match block.mixer:
        case Attention() as attention:
            mixer = 2 * _share(attention.heads * attention.head_dim, tp)
        case LatentAttention() as latent:
            absorbed = 2 * (latent.kv_rank + latent.rope_dim)
            mixer = _share(latent.heads * (absorbed + latent.nope_dim + latent.rope_dim), tp)
        case Recurrent() as recurrent:
            mixer = _share(2 * recurrent.parameters // hidden, tp)
        case None:
            mixer = 0
    match block.feed_forward:
        case Experts() as experts:
            forward = experts.active * ((experts.latent or hidden) + 3 * _share(experts.width, tp))
        case Mlp() as mlp:
            forward = _share(mlp.width * (3 if mlp.gated else 2), tp)
        case None:
            forward = 0
    return max(mixer, forward)


def _queries(attention: Attention, tp: int) -> int:
    """Values of queries, keys and values of one token, of one rank."""
    own = attention.heads * attention.head_dim * (2 if attention.gated else 1)
    return _share(own, tp) + _share(attention.kv_heads, tp) * (attention.head_dim + attention.value_dim)


def _share(count: int, tp: int) -> int:
    return ceil(count / tp)


def _llamacpp_compute(anatomy: Anatomy, load: Load, device: DeviceSpec) -> int:
    """The compute buffer: 32-bit intermediates, the 16-bit mask, one row of logits a slot, one layer's states.

    Devices that compute one after another hold the mask and the hidden state several times, to overlap.
    """
    hidden = anatomy.model.hidden
    layer = load.batch * 4 * _widest(anatomy, load.tp, _llamacpp_width)
    inputs = load.batch * 2 * load.cells
    if load.stages > 1 and device.kind != "cpu":
        inputs = _COPIES_OF_INPUTS * (inputs + load.batch * 4 * hidden)
    states = max(
        (kind.block.mixer.state_values for kind in anatomy.kinds if isinstance(kind.block.mixer, Recurrent)), default=0
    )
    return layer + inputs + load.requests * 4 * (anatomy.model.vocabulary + states)


def capture_sizes(requests: int) -> int:
    """How many batch sizes vLLM captures: 1, 2, 4, then steps of 8 to 256 and of 16 to twice the requests, at most 512.

    As vLLM 0.32 lists them (config/vllm.py); of those up to the requests a second, full graph is captured.
    """

    def count(most: int) -> int:
        small = sum(1 for size in (1, 2, 4) if size <= most)
        return small + min(most, 255) // 8 + (max(0, most - 240) // 16 if most >= 256 else 0)

    return count(min(2 * requests, 512)) + count(min(requests, 512))


def _pictures(anatomy: Anatomy, load: Load, device: DeviceSpec) -> int:
    """What a tower makes of the largest picture, which vLLM keeps while it profiles the language model."""
    if not anatomy.vision or device.kind == "cpu":
        return 0
    return max(load.batch, _PICTURE_TOKENS) * anatomy.model.hidden * load.activation


def _graphs(load: Load, device: DeviceSpec) -> int:
    """Captured graphs; nothing when eager or on a CPU."""
    if load.eager or device.kind == "cpu":
        return 0
    return capture_sizes(load.requests) * _GRAPH_BYTES


def _communication(load: Load, device: DeviceSpec) -> int:
    """Buffers of the communication library: a group for tensors, one for stages, one for experts."""
    if device.kind == "cpu":
        return 0
    groups = (load.tp, load.stages, load.ep)
    library = sum(_NCCL_PAIR if ranks == 2 else _NCCL_GROUP for ranks in groups if ranks > 1)
    own = 0 if load.tp == 1 else _REDUCE_NVLINK if device.kind == "datacenter" else _REDUCE
    return library + own


def _vllm_process(device: DeviceSpec, *, first: bool) -> int:
    """The driver's context and libraries; where memory is shared, what the processes hold of it as well."""
    context = 0 if device.kind == "cpu" else _VLLM_CONTEXT
    if device.kind != "cpu" and not device.unified:
        return context
    return context + _VLLM_WORKER + _VLLM_SERVER * first


def _llamacpp_process(device: DeviceSpec, *, first: bool) -> int:
    context = 0 if device.kind == "cpu" else _LLAMACPP_CONTEXT
    if device.kind != "cpu" and not device.unified:
        return context
    return context + _LLAMACPP_SERVER * first
