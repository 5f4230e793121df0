"""The catalog's models: every name that is needed, every fact with its source, counts held against published ones."""

import time

import pytest

from corral.errors import BadInput
from corral.models.known import _key, architecture, architecture_of, catalog_model, find_model, known_models
from corral.models.parameters import active_parameters, parameters

MODELS = known_models()
COUNTS = [(model, count) for model in MODELS for count in model.published]
_NAMES = """
deepseek-v4-flash gemma-3-4b gemma-4-26b-a4b gemma-4-31b gemma-4-e2b gemma-4-e4b glm-4.6 glm-4.7-flash glm-5
gpt-oss-120b gpt-oss-20b granite-4.1-8b kat-coder-v2.5-dev laguna-s-2.1 lfm2.5-2.6b llama-2-13b llama-2-70b llama-2-7b
llama-3.1-70b llama-3.1-8b ministral-3-14b ministral-3-3b mistral-7b mistral-small-4-119b muse-glimmer-30b
nemotron-3-nano-30b-a3b nemotron-3-nano-4b nemotron-3-super-120b-a12b qwen2.5-7b qwen3-30b-a3b qwen3-32b qwen3-4b
qwen3.5-0.8b qwen3.5-122b-a10b qwen3.5-27b qwen3.5-2b qwen3.5-35b-a3b qwen3.5-4b qwen3.5-9b kimi-k2.5
nemotron-3-ultra-550b-a55b qwen3-235b-a22b qwen3.5-397b-a17b minimax-m2.5 gemma-4-12b gemma-3-12b gemma-3-27b
qwen3-next-80b-a3b qwen3-14b qwen2.5-14b qwen2.5-32b llama-3.2-3b llama-3.1-405b llama-4-scout llama-4-maverick
mistral-small-3-24b devstral-2-123b ministral-3-8b tinyllama-1.1b deepseek-r1 deepseek-v3 deepseek-v3.2 qwen2.5-72b
kimi-k2 glm-4.5-air qwen3-coder-next llama-3.3-70b
"""


@pytest.mark.parametrize("name", _NAMES.split())
def test_a_model_that_people_measure_is_known(name):
    model = catalog_model(name)
    assert architecture(name).id == model.id


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_every_entry_says_where_it_was_read_and_when(model):
    assert len(model.source) > 20
    assert ":" in model.source or "huggingface.co" in model.source or "count" in model.source
    assert model.date[:2] == "20"
    for count in model.published:
        assert len(count.source) > 10
        assert count.date[:2] == "20"
    if model.confidence != "high":
        assert model.notes or len(model.published) > 1, "what is assumed has to be said"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_every_entry_reads_and_hangs_together(model):
    read = architecture_of(model)
    assert read.source == model.source
    assert sum(parameters(read).values()) > 10**8
    assert active_parameters(read) <= sum(parameters(read).values())


@pytest.mark.parametrize(("model", "count"), COUNTS, ids=[f"{m.id}-{c.kind}-{i}" for i, (m, c) in enumerate(COUNTS)])
def test_the_count_is_the_published_one(model, count, record_property):
    """Exact counts, and those rounded finer than that, within 0.1 %; coarser ones within their rounding."""
    ours = counted(model, count)
    record_property("counted", ours)
    allowed = max(count.parameters * 1e-3, count.rounding)
    assert abs(ours - count.parameters) <= allowed, f"{ours:,} where {count.source} says {count.parameters:,}"


def test_nearly_all_models_have_an_exact_count_to_be_held_against():
    exact = {model.id for model, count in COUNTS if count.rounding <= count.parameters * 1e-3}
    assert {model.id for model in MODELS} - exact == {"kimi-k2.5", "ministral-3-8b"}


def test_many_configurations_are_proven_by_what_others_published():
    """Finer than 0.1 %: these could not agree if a size of the configuration were wrong."""
    proven = {m.id for m, c in COUNTS if c.origin == "published" and c.rounding <= c.parameters * 1e-3}
    assert len(proven) >= 40, sorted(proven)


def counted(model, count):
    read = architecture_of(model)
    counts = parameters(read)
    if count.kind == "active":
        return active_parameters(read) - sum(counts.get(part, 0) for part in count.without)
    language = sum(counts.values()) - counts.get("draft", 0) - counts.get("vision", 0)
    parts = {"language": language, "draft": counts.get("draft", 0), "vision": counts.get("vision", 0)}
    return sum(parts[part] for part in count.of)


def test_no_name_means_two_models():
    owners = {}
    for model in MODELS:
        for name in (model.id, *model.aliases):
            assert owners.setdefault(_key(name), model.id) == model.id, name


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("Qwen/Qwen3-8B", "qwen3-8b"),
        ("qwen/qwen3-8b", "qwen3-8b"),
        ("unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF", "qwen3-30b-a3b"),
        ("bartowski/Llama-3.3-70B-Instruct-GGUF", "llama-3.1-70b"),
        ("lmstudio-community/gpt-oss-120b-GGUF", "gpt-oss-120b"),
        ("nvidia/DeepSeek-V3.2-NVFP4", "deepseek-v3.2"),
        ("mlx-community/Kimi-K2.5-4bit", "kimi-k2.5"),
        ("GPT-OSS-20B", "gpt-oss-20b"),
    ],
)
def test_a_name_is_found_as_people_write_it(name, id):  # noqa: A002
    assert catalog_model(name).id == id


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(BadInput, match="no model 'qwen3-33b'") as caught:
        catalog_model("qwen3-33b")
    assert "qwen3-32b" in caught.value.remedy


@pytest.mark.parametrize(
    "name", ["", "../secrets", "/etc/passwd", "x" * 10_000, "a\0b", "con", ".", "qwen3-8b/../../x"]
)
def test_a_hostile_name_is_only_unknown(name):
    assert find_model(name) is None


def test_one_model_is_read_quickly():
    started = time.perf_counter()
    architecture("nemotron-3-ultra-550b-a55b")
    architecture("Qwen/Qwen3.5-397B-A17B-FP8")
    assert time.perf_counter() - started < 0.5  # some milliseconds on an idle machine
