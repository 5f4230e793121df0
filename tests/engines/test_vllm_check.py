import pytest

from corral.engines.vllm import Vllm
from corral.engines.vllm.architectures import architectures
from corral.errors import BadInput, DoesNotFit
from engines.vllm_samples import LARGE, MODEL, placement

check = Vllm().check


def test_what_vllm_can_do_passes():
    check(placement("a"))
    check(placement("a", "b", tp=2))
    check(placement("a", "b", pp=2, variant="mp"))
    check(placement(*"aabbccdd", tp=2, pp=4, devices=True, model=LARGE))


def test_gguf_is_refused_with_the_engine_that_reads_it():
    with pytest.raises(BadInput, match="llamacpp"):
        check(placement("a", model=MODEL.model_copy(update={"format": "gguf"})))


def test_an_unknown_architecture_is_named():
    with pytest.raises(BadInput, match="FrogForCausalLM of demo"):
        check(placement("a", model=MODEL.model_copy(update={"architecture": "FrogForCausalLM"})))


def test_architectures_of_the_same_family_are_offered():
    with pytest.raises(BadInput, match=r"it knows .*Qwen3"):
        check(placement("a", model=MODEL.model_copy(update={"architecture": "Qwen37ForCausalLM"})))


def test_apple_is_refused():
    with pytest.raises(BadInput, match="llamacpp"):
        check(placement("a", accelerator="metal"))


def test_heads_that_cannot_be_divided():
    with pytest.raises(DoesNotFit, match=r"4 attention heads.*degree of 1, 2, 4,"):
        check(placement(*"abc", tp=3))


def test_kv_heads_that_can_be_neither_divided_nor_copied():
    model = LARGE.model_copy(update={"heads": 24, "kv_heads": 8})
    with pytest.raises(DoesNotFit, match="8 KV heads"):
        check(placement(*"abcdefghijkl", tp=12, model=model))


def test_fewer_kv_heads_than_ranks_are_copied():
    check(placement(*"abcd", tp=4))


def test_more_stages_than_layers():
    with pytest.raises(DoesNotFit, match="at most 4 stages"):
        check(placement(*"abcde", pp=5))


def test_an_architecture_that_is_no_pipeline():
    with pytest.raises(DoesNotFit, match="Gemma3nForCausalLM"):
        check(placement("a", "b", pp=2, model=MODEL.model_copy(update={"architecture": "Gemma3nForCausalLM"})))


def test_seats_must_be_as_many_as_ranks():
    with pytest.raises(BadInput, match="2 ranks, the placement 3"):
        check(placement(*"abc", tp=2))


def test_seats_of_a_node_must_be_side_by_side():
    with pytest.raises(BadInput, match="side by side"):
        check(placement(*"abab", tp=4))


def test_without_ray_nodes_must_be_alike():
    check(placement(*"aab", pp=3))
    with pytest.raises(BadInput, match="variant ray"):
        check(placement(*"aab", pp=3, variant="mp"))


def test_an_unknown_number_format():
    with pytest.raises(BadInput, match="'int3'"):
        check(placement("a", dtype="int3"))


def test_a_context_that_the_model_was_not_made_for():
    with pytest.raises(BadInput, match="up to 2048 tokens, 4096"):
        check(placement("a", context=4096))


def test_the_list_is_of_the_pinned_version():
    from corral.engines.vllm.environments import CPU_VERSION

    assert architectures().vllm == f"{CPU_VERSION}+cpu"
    assert len(architectures().registered) > 300


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "Qwen3MoeForCausalLM", "DeepseekV3ForCausalLM", "Olmo2ForCausalLM"]
)
def test_well_known_architectures_are_served(name):
    assert architectures().serves(name)


def test_a_base_model_is_served_as_its_whole():
    assert architectures().serves("Qwen3Model")
    assert not architectures().serves("FrogModel")
