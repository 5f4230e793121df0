import pytest

from corral.engines.base import Layout
from corral.engines.llamacpp import LlamaCpp
from corral.engines.llamacpp.versions import architectures
from corral.errors import BadInput, DoesNotFit
from engines.llamacpp_samples import MODEL, placement


def model(**changes):
    return MODEL.model_copy(update=changes)


REFUSED = {
    "safetensors": (placement("a", model=model(format="safetensors")), BadInput, "reads GGUF files"),
    "architecture": (placement("a", model=model(architecture="lama3")), BadInput, "'lama3'.*it knows"),
    "variant": (placement("a", variant="rpc"), BadInput, "no variant 'rpc'"),
    "dtype": (placement("a", dtype="float8"), BadInput, "float8"),
    "embedded on two nodes": (placement("a", "b", variant="embedded"), BadInput, "one node; 2"),
    "embedded with CUDA": (placement("a", devices=1, variant="embedded"), DoesNotFit, "not with cuda"),
    "tensors over nodes": (placement("a", "b", layout=Layout(tp=2)), DoesNotFit, "tp2 on a, b.*tp1xpp2"),
    "tensors on CPUs": (placement("a", "a", layout=Layout(tp=2)), DoesNotFit, "by layers"),
    "seats": (placement("a", "b", layout=Layout(pp=3)), BadInput, "3 ranks, 2 seats"),
    "no device": (placement("a", accelerator="cuda"), BadInput, "No cuda device of a"),
    "layers": (placement(*"abcdefghi"), DoesNotFit, "8 layers; they cannot be split 9 ways"),
    "context": (placement("a", context=4097), DoesNotFit, "4096 tokens of context, 4097"),
    "cache": (placement("a", kv_bytes=1024**2), DoesNotFit, r"1\.0 MiB of KV cache hold 256 tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_anything_starts(name):
    asked, kind, words = REFUSED[name]

    with pytest.raises(kind, match=words) as caught:
        LlamaCpp().check(asked)
    assert caught.value.remedy.endswith(".")


def test_both_versions_know_the_usual_architectures():
    usual = {"llama", "qwen3", "qwen3moe", "gpt-oss", "gemma3", "deepseek2", "bert", "glm4moe"}

    assert usual <= architectures("embedded") & architectures("server")
    assert "clip" not in architectures("embedded") | architectures("server")


def test_an_architecture_that_only_the_newer_version_knows():
    asked = model(architecture="k2-horizon")

    LlamaCpp().check(placement("a", model=asked))
    with pytest.raises(BadInput, match="k2-horizon"):
        LlamaCpp().check(placement("a", "b", model=asked))
