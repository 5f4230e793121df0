"""What lines of vLLM's, Ray's and their libraries' logs mean; knows no rank and no machine.

Each pattern was seen in a real log, of the pinned versions where no accelerator is needed (tests: recorded/vllm).
What every failure ends in ("Engine core initialization failed. See root cause above") has no entry.
"""

from typing import Final

from corral.engines.base import Symptom

_FETCH_AGAIN: Final = "Fetch the model's files again and compare their sizes with the original's."
_LESS_MEMORY: Final = (
    "Ask for a shorter --context or a lower --concurrency, divide the model over more nodes, or free memory."
)
_INTERFACE: Final = "Give the node's fabric address in the cluster file as the node itself knows it (`ip -br address`)."

_MODEL = (
    Symptom(
        id="vllm.architecture",
        pattern=r"Model architectures \['(?P<architecture>[^']+)'.*\] are not supported",
        cause="This vLLM does not know the architecture {architecture}.",
        remedy="Choose another model or engine, or name an environment with a newer vLLM in the cluster file.",
        depth=0,
    ),
    Symptom(
        id="vllm.missing-file",
        pattern=r"Weight files referenced in index but missing: \{'(?P<file>[^']+)'",
        cause="The model's file {file} is missing.",
        remedy=_FETCH_AGAIN,
        depth=0,
    ),
    Symptom(
        id="vllm.truncated",
        pattern=r"SafetensorError: Error while deserializing header: (?P<why>.+)",
        cause="A safetensors file of the model is cut off or damaged: {why}.",
        remedy=_FETCH_AGAIN,
        depth=0,
    ),
    Symptom(
        id="vllm.context",
        pattern=r"max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len \(\w+=(?P<most>\d+)",
        cause="The model was made for contexts of up to {most} tokens; {asked} were asked for.",
        remedy="Ask for --context {most} or less.",
        depth=0,
    ),
    Symptom(
        id="vllm.bfloat16",
        pattern=r"Bfloat16 is only supported.*Your (?P<device>.+) GPU has compute capability (?P<version>[\d.]+)",
        cause="{device} (compute capability {version}) cannot compute in bfloat16.",
        remedy="Ask for --dtype float16.",
        depth=0,
    ),
)

_MEMORY = (
    Symptom(
        id="vllm.cuda-memory",
        pattern=r"CUDA out of memory\. Tried to allocate (?P<wanted>[\d.]+ \w+)",
        cause="A GPU's memory is full: {wanted} more were needed.",
        remedy=_LESS_MEMORY,
        depth=0,
    ),
    Symptom(
        id="vllm.cuda-memory-taken",
        pattern=r"Free memory on device \S* ?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less",
        cause="Only {free} of {total} GiB of a GPU's memory are free: other programs hold the rest.",
        remedy="End what else uses that GPU (`nvidia-smi` lists it), or use another one.",
        depth=0,
    ),
    Symptom(
        id="vllm.cpu-memory",
        pattern=r"Available memory on node \d+ \((?P<free>[\d.]+)/.*requested memory for kv \((?P<wanted>[\d.]+)",
        cause="The KV cache needs {wanted} GiB of memory and {free} GiB are free.",
        remedy=_LESS_MEMORY,
        depth=0,
    ),
    Symptom(
        id="vllm.cache-too-small",
        pattern=r"No available memory for the cache blocks",
        cause="After the weights no memory is left for the KV cache.",
        remedy=_LESS_MEMORY,
        depth=0,
    ),
    Symptom(
        id="vllm.cache-short",
        pattern=r"max seq len \((?P<asked>\d+)\).*KV cache is needed.*estimated maximum model length is (?P<most>\d+)",
        cause="The KV cache holds one request of {most} tokens; {asked} were asked for.",
        remedy=_LESS_MEMORY,
        depth=0,
    ),
    Symptom(
        id="vllm.ray-memory",
        pattern=r"killed due to memory pressure \(OOM\)|due to the node running low on memory",
        cause="A rank was ended because its node's memory ran out.",
        remedy=_LESS_MEMORY,
        depth=0,
    ),
)

_DEVICE = (
    Symptom(
        id="vllm.no-kernel",
        pattern=r"no kernel image is available for execution on the device",
        cause="This build of vLLM or PyTorch has no code for this GPU's generation.",
        remedy="Name an environment with a build for it in the cluster file (V100: CUDA 12), or use llamacpp.",
        depth=0,
    ),
    Symptom(
        id="vllm.driver",
        pattern=r"The NVIDIA driver on your system is too old|CUDA driver version is insufficient",
        cause="The node's NVIDIA driver is older than this build of PyTorch needs.",
        remedy="Update the driver, or name an environment with a build for an older CUDA in the cluster file.",
        depth=0,
    ),
    Symptom(
        id="vllm.no-gpu",
        pattern=r"No CUDA GPUs are available",
        cause="CUDA sees no GPU on the node.",
        remedy="Look whether `nvidia-smi` lists it there, and whether the cluster file names the right devices.",
        depth=0,
    ),
    Symptom(
        id="vllm.platform",
        pattern=r"current platform (?P<platform>\w+) does not support ray",
        cause="The environment's vLLM cannot use Ray on {platform}: Corral's plugin is not in it.",
        remedy="Let Corral make the environment, or use the variant mp.",
        depth=0,
    ),
)

_NETWORK = (
    Symptom(
        id="vllm.port",
        pattern=r"OSError: \[Errno \d+\] Address already in use",
        cause="A port that was free a moment ago is taken.",
        remedy="Try again: another one will be chosen.",
        depth=0,
    ),
    Symptom(
        id="vllm.gloo-interface",
        pattern=r"gloo.*Unable to find address for: (?P<interface>\S+)",
        cause="The node has no network interface {interface} with an address.",
        remedy=_INTERFACE,
        depth=0,
    ),
    Symptom(
        id="vllm.nccl-interface",
        pattern=r"Bootstrap : no socket interface found",
        cause="NCCL finds no network interface of the name that it was given.",
        remedy=_INTERFACE,
        depth=0,
    ),
    Symptom(
        id="vllm.nccl-timeout",
        pattern=r"collective operation timeout: WorkNCCL\(.*OpType=(?P<operation>\w+).* ran for (?P<ms>\d+)",
        cause="Ranks waited {ms} ms for one another in an {operation}: one is gone, or the network between them broke.",
        remedy="Look at the other ranks' logs, and check the link between the nodes.",
        depth=2,
    ),
    Symptom(
        id="vllm.nccl-system",
        pattern=r"NCCL error: unhandled (?P<kind>system|cuda) error|ncclSystemError",
        cause="NCCL could not connect the ranks.",
        remedy="Check that the nodes reach one another on their fabric addresses with no firewall between.",
        depth=1,
    ),
)
_RANKS = (
    Symptom(
        id="vllm.ray-version",
        pattern=r"Version mismatch: The cluster was started with",
        cause="The nodes' environments differ in the version of Ray or of Python.",
        remedy="Use the same versions everywhere: let Corral make the environments, with one Python (3.11, 3.12, ...).",
        depth=0,
    ),
    Symptom(
        id="vllm.ray-token",
        pattern=r"InvalidAuthToken: Authentication token is missing or incorrect",
        cause="A Ray that is not this deployment's answered: it asks for another token.",
        remedy="Try again: other ports will be chosen.",
        depth=0,
    ),
    Symptom(
        id="vllm.ray-unreachable",
        pattern=r"Failed to connect to GCS at address (?P<address>\S+)",
        cause="The first node's Ray cannot be reached at {address}.",
        remedy="Check that the nodes reach one another on their fabric addresses with no firewall between.",
        depth=1,
    ),
    Symptom(
        id="vllm.master-unreachable",
        pattern=r"client socket has failed to connect to any network address of \((?P<address>[^,]+), (?P<port>\d+)\)",
        cause="The first node cannot be reached at {address}, port {port}.",
        remedy="Check that the nodes reach one another on their fabric addresses with no firewall between.",
        depth=1,
    ),
    Symptom(
        id="vllm.worker-lost",
        pattern=r"Worker proc (?P<worker>\S+) died unexpectedly \(exit code: (?P<status>-?\d+)\)",
        cause="{worker} ended with status {status} (-9 is a kill, often by the kernel for want of memory).",
        remedy="Look for it in that node's kernel log (`dmesg`), and at the memory that was free.",
        depth=1,
    ),
    Symptom(
        id="vllm.ray-worker-lost",
        pattern=r"RayWorkerProc rank=\[(?P<rank>[\d, ]+)\] died unexpectedly",
        cause="Rank {rank} was lost: its process ended, its node went away or the network broke.",
        remedy="Look whether the other nodes answer (`corral status`), and at their memory and kernel logs.",
        depth=2,
    ),
)
SYMPTOMS: Final[tuple[Symptom, ...]] = (*_MODEL, *_MEMORY, *_DEVICE, *_NETWORK, *_RANKS)
