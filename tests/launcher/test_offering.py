import pytest

from corral.cluster.file import parse
from corral.errors import BadInput
from corral.launcher.offering import loaded_at_once, offered_by

FILE = """\
nodes:
  - {name: big, address: 10.0.0.1}
  - {name: nas, address: 10.0.0.2}
models:
  - {name: chat, model: chat.gguf, layout: tp2xdp2, fallback: [tiny], executor: server}
  - {name: coder, model: Qwen/Qwen3-0.6B-GGUF:Q8_0, ttl: 1 min}
  - {name: small, model: demo, pinned: true, nodes: [nas], aliases: [tiny]}
residency: {min_loaded: 2, min_stay: 20 s}
"""


@pytest.fixture
def offers(tmp_path):
    (tmp_path / "chat.gguf").touch()
    return offered_by(parse(FILE), tmp_path)


def test_each_model_becomes_what_up_would_be_asked(offers, tmp_path):
    chat, coder, small = offers
    assert chat.request.model == str(tmp_path / "chat.gguf"), "a path is from the file's folder"
    assert (chat.request.layout, chat.replicas, chat.request.variant) == ("tp2", 2, "server")
    assert chat.fallback == ("small",), "by the model's own name"
    assert [node.name for node in chat.request.cluster.nodes] == ["big", "nas"]
    assert chat.request.cluster.models == ()
    assert (coder.request.model, coder.ttl) == ("Qwen/Qwen3-0.6B-GGUF:Q8_0", 60.0)
    assert [node.name for node in small.request.cluster.nodes] == ["nas"]
    assert {(offer.min_loaded, offer.min_stay) for offer in offers} == {(2, 20.0)}


def test_pinned_models_are_loaded_at_once_and_the_first_until_there_are_enough(offers):
    assert [offer.name for offer in loaded_at_once(offers)] == ["chat", "small"]
    none = [offer.model_copy(update={"min_loaded": 0}) for offer in offers]
    assert [offer.name for offer in loaded_at_once(none)] == ["small"]
    assert loaded_at_once(()) == ()


def test_a_model_that_is_nowhere_is_refused_before_anything_is_offered(tmp_path):
    with pytest.raises(BadInput, match=r"'\./gone.gguf' is not there"):
        offered_by(parse(FILE.replace("chat.gguf", "./gone.gguf")), tmp_path)
