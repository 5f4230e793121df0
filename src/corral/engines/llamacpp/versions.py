"""Which llama.cpp is used and what stands on a node to run it; knows no placement's layers and no option.

Two versions are in use: the one inside xllamacpp's wheel, and the source inside llama-cpp-python's sdist, which is the
only copy of llama.cpp's source that every Python package index carries.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Final

from corral.engines.base import LlamaCppBuild, PythonEnvironment

XLLAMACPP: Final = "2026.10.11549"  # carries llama.cpp 0.6.0-dev; the version of requirements.lock
SOURCE: Final = "llama-cpp-python==0.3.36"  # carries llama.cpp 0.5.0-dev
SOURCE_SHA256: Final = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
TARGETS: Final = ("llama-server", "ggml-rpc-server")

_OPTIONS: Final = (
    "CMAKE_BUILD_TYPE=Release",
    "BUILD_SHARED_LIBS=OFF",  # programs that can be moved and need no library path
    "GGML_RPC=ON",
    "LLAMA_BUILD_TESTS=OFF",
    "LLAMA_BUILD_EXAMPLES=OFF",
    "LLAMA_BUILD_APP=OFF",
    "LLAMA_BUILD_UI=OFF",
    "LLAMA_USE_PREBUILT_UI=OFF",  # it would be fetched from outside
    "LLAMA_OPENSSL=OFF",  # the API is on the loopback
    "LLAMA_SUBPROCESS=OFF",  # a server has no need to start programs
    "LLAMA_ALL_WARNINGS=OFF",
)
_ACCELERATOR_OPTIONS: Final = {
    "cpu": (),
    "cuda": ("GGML_CUDA=ON",),
    "rocm": ("GGML_HIP=ON",),
    "metal": ("GGML_METAL=ON",),
}


def build(accelerator: str) -> LlamaCppBuild:
    """Give the build of llama-server and the RPC worker for an accelerator."""
    return LlamaCppBuild(
        name="llama.cpp" if accelerator == "cpu" else f"llama.cpp-{accelerator}",
        source=f"{SOURCE} --hash=sha256:{SOURCE_SHA256}",
        options=(*_OPTIONS, *_ACCELERATOR_OPTIONS[accelerator]),
        targets=TARGETS,
    )


def embedded() -> PythonEnvironment:
    """Give the environment of the embedded server."""
    return PythonEnvironment(name="xllamacpp", requirements=(f"xllamacpp=={XLLAMACPP}",), proof="import xllamacpp")


@cache
def architectures(variant: str) -> frozenset[str]:
    """Names (`general.architecture`) of the models that a variant's llama.cpp can load."""
    text = files("corral.engines.llamacpp").joinpath("architectures.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)[variant]["architectures"])
