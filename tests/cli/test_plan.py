import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from corral.cluster.file import load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def sparks():
    return EXAMPLES / "three-sparks-switched.yaml"


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_plans(corral, example):
    code, out, err = corral("plan", "qwen3-8b", "-c", example, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "corral.plan/1"
    nodes = {node.name for node in load(example).nodes}
    for candidate in document["candidates"]:
        assert set(candidate["nodes"]) <= nodes
        decode = candidate["speed"]["decode"]
        assert 0 < decode["low"] <= decode["value"] <= decode["high"]
        assert candidate["speed"]["terms"]
        assert candidate["power"]["decode"] >= candidate["power"]["idle"] > 0


def test_a_person_reads_the_choice_in_a_screen(corral, sparks):
    code, out, _ = corral("plan", "gpt-oss-120b", "-c", sparks)
    assert code == 0
    assert len(out.splitlines()) < 30
    for what in ("one stream", "first token", "power", "context", "spark1", "GiB", "a month", "circuit desk"):
        assert what in out


def test_why_says_where_the_time_goes_and_what_links_and_limits_would_do(corral, sparks):
    code, out, _ = corral("plan", "llama-3.1-70b", "-c", sparks, "--layout", "tp2", "--why")
    assert code == 0
    assert re.search(r"A step of generating takes .*: \d+ % weights", out)
    assert re.search(r"\d+ % all-reduce over roce-200g", out)
    for what in ("1 Gb/s Ethernet", "InfiniBand", "NVLink", "A power limit for each device", "Assumed"):
        assert what in out


def test_with_others_in_flight_a_token_waits_for_their_prompts(corral, sparks):
    words = ("plan", "llama-3.1-8b", "-c", sparks, "--layout", "tp1", "--why", "--concurrency")
    _, alone, _ = corral(*words, 1)
    _, together, _ = corral(*words, 16)
    assert "while prompts of others are read" not in alone
    assert "while prompts of others are read" in together


def test_what_does_not_fit_ends_with_one_and_says_what_would(corral, sparks):
    code, out, err = corral("plan", "deepseek-v3", "-c", sparks, "--quant", "fp8")
    assert (code, out) == (1, "")
    assert "too little" in err
    assert "try:" in err


def test_what_does_not_fit_is_a_document_too(corral, sparks):
    code, out, _ = corral("plan", "deepseek-v3", "-c", sparks, "--quant", "fp8", "--json")
    assert code == 1
    document = json.loads(out)
    assert document["candidates"] == []
    assert "too little" in document["why_not"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layout", "tp7"), "heads"),
        (("--layout", "sideways"), "is no layout"),
        (("--layout", "tp16"), "needs 16 devices"),
        (("--target", "beauty"), "is no target"),
        (("--quant", "lead"), "weight format"),
        (("--engine", "steam"), "steam"),
        (("--without", "spark9"), "no node 'spark9'"),
        (("--context", "99999999"), "contexts of up to"),
        (("--price", "much"), "is no price"),
        (("--kv", "soft"), "cache format"),
        (("--svg", "/nonexistent/a.svg"), "cannot be written"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said_in_two_sentences(corral, sparks, words, said):
    code, out, err = corral("plan", "llama-3.1-8b", "-c", sparks, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "try:" in err
    assert "Traceback" not in err


def test_a_model_that_nobody_knows_is_refused_with_near_names(corral, sparks):
    code, _, err = corral("plan", "lama-3.1-8b", "-c", sparks)
    assert code == 2
    assert "llama-3.1-8b" in err


def test_the_user_s_target_changes_the_choice(corral, sparks):
    def first(target):
        _, out, _ = corral("plan", "qwen3-30b-a3b", "-c", sparks, "--target", target, "--concurrency", 32, "--json")
        return json.loads(out)["candidates"][0]

    speed, throughput, context = first("speed"), first("throughput"), first("context")
    assert throughput["speed"]["output"]["value"] >= speed["speed"]["output"]["value"]
    assert context["longest_context"] >= speed["longest_context"]
    assert throughput["speed"]["output"]["value"] >= context["speed"]["output"]["value"]


def test_clusters_and_models_are_set_side_by_side(corral):
    slow, fast = EXAMPLES / "four-boxes-1g.yaml", EXAMPLES / "four-boxes-100g.yaml"
    code, out, _ = corral("plan", "llama-3.1-405b", "-c", fast, "--compare", slow, "--compare", "qwen3-32b")
    assert code == 0
    lines = [line for line in out.splitlines() if "four-boxes" in line]
    assert len(lines) == 4
    code, out, _ = corral("plan", "llama-3.1-405b", "-c", fast, "--compare", slow, "--json")
    document = json.loads(out)
    assert document["schema"] == "corral.plans/1"
    rates = [plan["candidates"][0]["speed"]["decode"]["value"] for plan in document["plans"]]
    assert rates[0] > rates[1]


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_picture_shows_every_node_every_rank_and_every_link(corral, example, tmp_path):
    picture = tmp_path / "a.svg"
    code, out, _ = corral("plan", "qwen3-8b", "-c", example, "--svg", picture)
    assert code == 0
    assert str(picture) in out
    text = picture.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert "prefers-color-scheme:dark" in text
    width, height = float(root.get("width")), float(root.get("height"))
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    cluster = load(example)
    for node in cluster.nodes:
        assert node.name in words
    assert sum(word.startswith("rank ") for word in words) >= 1
    for link in cluster.links:
        assert not link.switch or link.switch in words
    for element in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y = float(element.get("x")), float(element.get("y"))
        assert 0 <= x <= x + float(element.get("width")) <= width + 0.1
        assert 0 <= y <= y + float(element.get("height")) <= height + 0.1


def test_names_from_a_cluster_file_cannot_break_the_picture(corral, tmp_path):
    text = (EXAMPLES / "three-sparks-switched.yaml").read_text(encoding="utf-8")
    file = tmp_path / "c.yaml"
    file.write_text(text.replace("MikroTik CRS812-8DS-2DQ-2DDQ", "'<script>&\"'"), encoding="utf-8")
    code, _, _ = corral("plan", "qwen3-8b", "-c", file, "--svg", tmp_path / "a.svg")
    assert code == 0
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "<script>" not in drawn
    ET.fromstring(drawn)


def test_a_config_of_one_s_own_is_planned(corral, sparks, tmp_path):
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 8192, "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code, out, err = corral("plan", tmp_path / "mine", "-c", sparks, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["parameters"] == 8030261248


def test_without_a_cluster_file_the_cluster_is_this_machine(corral):
    code, out, err = corral("plan", "qwen3-0.6b", "--context", "512", "--json")
    assert code in {0, 1}, err
    assert json.loads(out)["cluster"] == "this-machine"


@pytest.mark.parametrize(
    ("words", "work"),
    [
        ((), (8192, 2048, 512)),
        (("--context", 1024), (1024, 768, 256)),
        (("--prompt", 100_000), (100_512, 100_000, 512)),
        (("--prompt", 100, "--output", 20), (8192, 100, 20)),
        (("--output", 20_000), (22_048, 2048, 20_000)),
    ],
)
def test_what_is_left_out_of_the_load_is_a_chat_that_fits(corral, sparks, words, work):
    code, out, err = corral("plan", "llama-3.1-8b", "-c", sparks, *words, "--json")
    assert code == 0, err
    load = json.loads(out)["workload"]
    assert (load["context"], load["prompt"], load["output"]) == work
