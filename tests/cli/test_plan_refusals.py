"""What `corral plan` is asked that cannot be: each is said in two sentences, by the exit status that belongs to it."""

import json
from pathlib import Path

import pytest

SPARKS = Path(__file__).parents[2] / "examples" / "three-sparks-switched.yaml"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--concurrency", 10**9), "--concurrency"),
        (("--concurrency", "9" * 400), "--concurrency"),
        (("--cached", 10**9, "--prompt", 2048), "longer than the prompt"),
        (("--prompt", 131072), "--prompt"),
        (("--output", 131072), "--output"),
        (("--power-limit", "1"), "1 W"),
        (("--power-limit", "1e-300"), "limit"),
        (("--svg", "a\0b"), "cannot be written"),
        (("--kv", "q8_0", "--engine", "vllm"), "cache"),
        (("--kv", "fp8", "--engine", "llamacpp"), "cache"),
    ],
)
def test_what_cannot_be_asked_for_is_bad_use(corral, words, said):
    code, out, err = corral("plan", "llama-3.1-8b", "-c", SPARKS, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "try:" in err
    assert "itself failed" not in err


@pytest.mark.parametrize(("prompt", "output"), [(8192, 512), (100_000, 512), (131_000, 72), (131_071, 1)])
def test_a_long_prompt_makes_room_for_itself_and_an_answer(corral, prompt, output):
    code, out, err = corral("plan", "llama-3.1-8b", "-c", SPARKS, "--prompt", prompt, "--json")
    assert (code, err) == (0, "")
    work = json.loads(out)["workload"]
    assert (work["prompt"], work["output"]) == (prompt, output)
    assert work["context"] >= prompt + output


def test_no_model_is_not_some_model(corral):
    code, out, err = corral("plan", "", "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "No model" in err


@pytest.mark.parametrize("path", ["./nowhere/config.json", "nowhere.gguf", "/nowhere", "models/a/b/c", "~/nowhere"])
def test_a_path_that_is_not_there_is_called_so(corral, path):
    code, out, err = corral("plan", path, "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "is not there" in err


def test_a_link_that_leads_to_itself_is_no_hub_id(corral, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to("mine")
    monkeypatch.chdir(tmp_path)
    code, out, err = corral("plan", "models/mine", "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "symbolic links" in err


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_what_is_no_file_and_no_folder_is_no_model(corral, path):
    code, out, err = corral("plan", path, "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "no file" in err


def test_leaving_every_node_out_leaves_none(corral):
    names = [word for number in (1, 2, 3) for word in ("--without", f"spark{number}")]
    code, out, err = corral("plan", "llama-3.1-8b", "-c", SPARKS, *names)
    assert (code, out) == (2, "")
    assert "Leave fewer nodes out" in err


def config(**fields):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "intermediate_size": 14336, "vocab_size": 128256,
        "max_position_embeddings": 8192, "tie_word_embeddings": False,
    } | fields  # fmt: skip


@pytest.fixture
def mine(tmp_path):
    def write(**fields):
        (tmp_path / "config.json").write_text(json.dumps(config(**fields)), encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(
    "quantized", [{"quant_method": "bogus"}, {"quant_method": 5}, {"quant_method": "gptq", "bits": -3}]
)
def test_a_format_that_nobody_knows_can_be_named_otherwise(corral, mine, quantized):
    folder = mine(quantization_config=quantized)
    code, out, err = corral("plan", folder, "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "config.json" in err
    assert "--quant" in err
    code, _, err = corral("plan", folder, "-c", SPARKS, "--quant", "awq-int4")
    assert (code, err) == (0, "")


def test_an_architecture_that_nobody_knows_is_estimated_when_asked_for(corral, mine):
    folder = mine(architectures=["FooForCausalLM"], model_type="foo")
    code, out, err = corral("plan", folder, "-c", SPARKS)
    assert (code, out) == (2, "")
    assert "FooForCausalLM" in err
    assert "--estimate" in err
    code, out, err = corral("plan", folder, "-c", SPARKS, "--estimate", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["parameters"] == 8030261248
    assert any("FooForCausalLM" in note for note in (*document["assumptions"], *document["warnings"]))
