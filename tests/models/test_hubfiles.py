import pytest

from corral.errors import BadInput
from corral.models.hubfiles import select

GGUF = {f"m-{quantization}.gguf": 1 for quantization in ("Q2_K", "Q4_K_M", "Q8_0", "UD-Q4_K_XL", "BF16")}
SHARDED = {f"Q6_K/m-Q6_K-0000{number}-of-00002.gguf": 1 for number in (1, 2)}
FOLDER = {
    "README.md": 1, "config.json": 1, "tokenizer.json": 1, "chat_template.jinja": 1,
    "model-00001-of-00002.safetensors": 1, "model-00002-of-00002.safetensors": 1, "model.safetensors.index.json": 1,
    "original/model.pth": 1,
    "consolidated.safetensors": 1, "onnx/config.json": 1, "1_Pooling/config.json": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("pick", "names"),
    [
        ("", ("m-Q4_K_M.gguf",)),
        ("Q8_0", ("m-Q8_0.gguf",)),
        ("q8_0", ("m-Q8_0.gguf",)),
        ("m-Q2_K.gguf", ("m-Q2_K.gguf",)),
        ("Q6_K", tuple(SHARDED)),
        ("UD-Q4_K_XL", ("m-UD-Q4_K_XL.gguf",)),
    ],
)
def test_a_gguf_is_picked_with_all_its_parts(pick, names):
    assert select("a/b", GGUF | SHARDED | {"mmproj-Q8_0.gguf": 1}, pick) == names


def test_a_folder_is_taken_without_what_no_engine_needs():
    assert set(FOLDER) - set(select("a/b", FOLDER)) == {
        "README.md", "original/model.pth", "consolidated.safetensors", "onnx/config.json",
    }  # fmt: skip


def test_what_is_not_there_is_refused_with_what_is():
    with pytest.raises(BadInput, match="no file or quantization 'Q3_K_S'") as raised:
        select("a/b", GGUF, "Q3_K_S")
    assert "m-Q8_0" in raised.value.remedy
    with pytest.raises(BadInput, match=r"only \.bin, \.json"):
        select("a/b", {"config.json": 1, "pytorch_model.bin": 1})
    with pytest.raises(BadInput, match="holds no model"):
        select("a/b", {})
    with pytest.raises(BadInput, match=r"lacks m-00001-of-00002\.gguf"):
        select("a/b", {"m-00002-of-00002.gguf": 1})
    with pytest.raises(BadInput, match="has 2 GGUF models") as raised:
        select("a/b", {"red.gguf": 1, "blue.gguf": 1})
    assert "red" in raised.value.remedy
