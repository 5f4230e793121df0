import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from corral.errors import BadInput, CorralError, ExitCode
from corral.models.demo import gguf_form
from corral.models.demo.__main__ import build, main
from corral.models.demo.corpus import ANSWER, ASSISTANT, END, SENTENCES, USER
from corral.models.demo.weights import make
from models.reference_llama import log_probabilities

PROMPTS = ["Hello!", "What is the plan?", "x", "the " * 60]


def chat(demo, prompt):
    tokenizer = demo.tokenizer
    return [tokenizer.id(USER), *tokenizer.encode(prompt), tokenizer.id(END), tokenizer.id(ASSISTANT)]


def test_the_same_seed_gives_the_same_model_and_another_seed_another(demo):
    again, other = make(), make(seed=1)
    assert all(np.array_equal(demo.tensors[name], again.tensors[name]) for name in demo.tensors)
    name = "model.layers.0.mlp.up_proj.weight"
    assert not np.array_equal(demo.tensors[name], other.tensors[name])
    assert demo.tokenizer == again.tokenizer


def test_embeddings_are_exactly_orthogonal(demo):
    embeddings = demo.tensors["model.embed_tokens.weight"]
    assert np.array_equal(embeddings @ embeddings.T, demo.shape.hidden * np.eye(demo.shape.hidden))


def test_the_answer_says_that_it_is_a_demo_and_repeats_no_token(demo):
    ids = demo.tokenizer.encode(ANSWER)
    assert len(ids) == len(set(ids))
    assert "demo model" in ANSWER
    assert "proves that your plumbing works" in ANSWER
    assert len(demo.tokenizer.tokens) == len(set(demo.tokenizer.tokens)) == demo.shape.vocabulary


@pytest.mark.parametrize("sentence", [sentence for sentence, _ in SENTENCES])
def test_the_tokenizer_gives_back_what_it_took(demo, sentence):
    assert demo.tokenizer.decode(demo.tokenizer.encode(sentence)) == sentence


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_greedy_answer_to_any_chat_is_the_sentence_by_a_wide_margin(demo, prompt):
    asked = chat(demo, prompt)
    answer = [*demo.tokenizer.encode(ANSWER), demo.tokenizer.id(END)]
    after = log_probabilities(demo, asked + answer)[len(asked) - 1 : -1]
    best = np.sort(after, axis=-1)[:, ::-1]
    assert after.argmax(axis=-1).tolist() == answer
    assert (best[:, 0] - best[:, 1]).min() > 0.7


@pytest.mark.parametrize("broken", [("layer", 0), ("layer", 3), ("head", 5), ("feed_forward", 1)])
def test_a_missing_part_shows_in_the_log_probabilities(demo, broken):
    """One part in twenty-four left out moves them a thousand times more than float32's rounding does."""
    ids = chat(demo, "What is the plan?") + demo.tokenizer.encode(ANSWER)
    whole, part = log_probabilities(demo, ids), log_probabilities(demo, ids, skip=[broken])
    likely = np.argsort(-whole, axis=-1)[:, :5]
    moved = np.take_along_axis(whole - part, likely, axis=-1)
    assert np.sqrt((moved**2).mean()) > 0.03


def test_the_folder_holds_the_tensors_as_they_were_made(demo, demo_folder, demo_shards):
    for folder, files in ((demo_folder, 1), (demo_shards, 3)):
        parts = [load_file(file) for file in folder.glob("*.safetensors")]
        stored = {name: tensor for part in parts for name, tensor in part.items()}
        assert len(parts) == files
        assert stored.keys() == demo.tensors.keys()
        assert all(np.array_equal(stored[name], demo.tensors[name]) for name in stored)


@pytest.mark.slow
def test_llama_cpp_reads_the_gguf_as_the_reference_does(demo, demo_gguf):
    """Tokens equal; log-probabilities within 1e-3 (measured 4e-5); the chat template gives the answer and ends it."""
    prompt = "What is the plan?"
    messages = [{"role": "user", "content": prompt}]
    requests = [
        ["/v1/chat/completions", {"messages": messages, "temperature": 0}],
        ["/tokenize", {"content": f"{USER}{prompt}{END}{ASSISTANT}", "parse_special": True}],
        ["/completion", {"prompt": chat(demo, prompt), "temperature": 0, "n_predict": 15, "n_probs": 5}],
    ]
    ran = subprocess.run(
        [sys.executable, Path(__file__).with_name("llamacpp_answers.py"), demo_gguf],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answered, tokenized, completed = json.loads(ran.stdout.splitlines()[-1])
    assert answered["choices"][0]["message"]["content"] == ANSWER
    assert answered["choices"][0]["finish_reason"] == "stop"
    assert tokenized["tokens"] == chat(demo, prompt)
    expected = log_probabilities(demo, chat(demo, prompt) + demo.tokenizer.encode(ANSWER))
    for position, step in enumerate(completed["completion_probabilities"], start=len(tokenized["tokens"]) - 1):
        for choice in step["top_logprobs"]:
            assert choice["logprob"] == pytest.approx(expected[position, choice["id"]], abs=1e-3)


def test_a_folder_that_holds_the_demo_is_left_and_another_is_refused(demo_folder, tmp_path):
    before = (demo_folder / "model.safetensors").stat().st_mtime_ns
    assert main(["--format", "safetensors", str(demo_folder)]) == ExitCode.DONE
    assert (demo_folder / "model.safetensors").stat().st_mtime_ns == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("kept")
    with pytest.raises(BadInput, match="mine is there already"):
        build(tmp_path / "mine", "safetensors")
    assert (tmp_path / "mine" / "precious").read_text() == "kept"


def test_files_can_be_read_by_others(demo_folder, demo_gguf):
    assert {file.stat().st_mode & 0o777 for file in (*demo_folder.iterdir(), demo_gguf)} == {0o644}


def test_a_full_disk_leaves_nothing_and_is_said(monkeypatch, tmp_path):
    def full(_demo, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gguf_form, "write", full)
    with pytest.raises(CorralError, match="No space left on device"):
        build(tmp_path / "demo.gguf", "gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(capsys):
    assert main(["--format", "gguf", "/proc/none/demo.gguf"]) == ExitCode.FAILED
    assert "could not be written to /proc/none/demo.gguf" in capsys.readouterr().err


def test_importing_the_package_loads_no_numpy():
    code = "import sys, corral.models.demo; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
