"""The environment variables of every vLLM and Ray process on one node; knows no rank's command."""

from typing import Final

from corral.engines.base import Placement, Site
from corral.engines.vllm.variant import devices_on, seats_on

# Linux' own search path, with CUDA's compiler, which some kernels are built with on first use. The environment's bin/
# goes first: PyTorch looks for `ninja` there.
SEARCH_PATH: Final = "/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VISIBLE_DEVICES: Final = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}


def node_env(placement: Placement, site: Site) -> dict[str, str]:
    """Variables that each process of the deployment needs on this node."""
    kept = f"{site.cache}/engines"
    env = {
        "PATH": f"{site.environment}/bin:{SEARCH_PATH}",
        "TMPDIR": site.scratch,
        # Compiled kernels and what vLLM learned of model classes are worth keeping; nothing goes to ~/.cache.
        "XDG_CACHE_HOME": kept,
        "XDG_CONFIG_HOME": f"{kept}/config",
        "PYTHONUNBUFFERED": "1",
        # Ranks are found again by marks in their environment. vLLM and Ray rename their processes, and setproctitle
        # writes the new name over that environment unless it is told to keep to the arguments' room.
        "SPT_NOENV": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "VLLM_LOGGING_COLOR": "0",
        # Which of the node's addresses ranks use. Left alone, each library takes the default route's, which is the
        # management network's.
        "VLLM_HOST_IP": site.address,
        "GLOO_SOCKET_IFNAME": site.interface,
        "TP_SOCKET_IFNAME": site.interface,
    }
    if placement.layers:
        env["VLLM_PP_LAYER_PARTITION"] = ",".join(str(count) for count in placement.layers)
    return env | (_cpu(placement, site) if placement.accelerator == "cpu" else _devices(placement, site))


def _cpu(placement: Placement, site: Site) -> dict[str, str]:
    """Thread counts, and nothing that compiles on first use: a CPU node need not have a C++ compiler.

    Without TORCHDYNAMO_DISABLE the sampler is compiled in the first request (14 s on 2 cores, and g++ is needed).
    """
    threads = placement.threads or max(1, site.cores // seats_on(placement, site.node))
    return {
        "OMP_NUM_THREADS": str(threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TORCHDYNAMO_DISABLE": "1",
    }


def _devices(placement: Placement, site: Site) -> dict[str, str]:
    """Which accelerators are used and which interface their library talks over."""
    env = {"NCCL_SOCKET_IFNAME": site.interface}
    devices = devices_on(placement, site.node)
    if devices and (name := VISIBLE_DEVICES.get(placement.accelerator)):
        env[name] = ",".join(str(device) for device in devices)
    return env
