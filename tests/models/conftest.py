import pytest
from hypothesis import settings

from corral.models.demo.__main__ import build
from corral.models.demo.weights import make

settings.register_profile("patient", deadline=None)  # a busy machine is no failure
settings.load_profile("patient")


@pytest.fixture(scope="session")
def demo():
    return make()


@pytest.fixture(scope="session")
def demo_gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "corral-demo.gguf"
    build(path, "gguf")
    return path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("safetensors") / "corral-demo"
    build(path, "safetensors")
    return path


@pytest.fixture(scope="session")
def demo_shards(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "corral-demo"
    build(path, "safetensors", shards=3)
    return path
