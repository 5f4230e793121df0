"""The models of a cluster file: what they may say, and what is refused with its line."""

import pytest

from corral.cluster.file import dump, parse
from corral.errors import BadInput

GOOD = """\
nodes:
  - name: big
    address: 10.0.0.1
  - name: nas
    address: 10.0.0.2
models:
  - name: chat
    model: Qwen/Qwen3-14B-GGUF:Q4_K_M
    aliases: [gpt-4o, team/chat]
    fallback: [small]
    layout: tp2xdp2
  - name: coder
    model: models/coder.gguf
    context: 32768
    ttl: 30 min
  - name: small
    model: demo
    pinned: true
    nodes: [nas]
residency: {min_loaded: 1, min_stay: 5 s}
"""


def test_models_are_read_and_written_back():
    cluster = parse(GOOD)
    chat, coder, small = cluster.models
    assert (chat.aliases, chat.fallback, chat.layout) == (("gpt-4o", "team/chat"), ("small",), "tp2xdp2")
    assert (coder.ttl, coder.context, coder.concurrency) == (1800.0, 32768, 4)
    assert (small.pinned, small.nodes) == (True, ("nas",))
    assert (cluster.residency.min_loaded, cluster.residency.min_stay) == (1, 5.0)
    assert parse(dump(cluster)) == cluster
    assert cluster.machines().models == ()


def test_without_models_nothing_is_said_of_them():
    cluster = parse("nodes: [{name: a, address: local}]")
    assert (cluster.models, cluster.residency.min_loaded, cluster.residency.min_stay) == ((), 0, 10.0)
    assert "models" not in dump(cluster)
    assert "residency" not in dump(cluster)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("name: coder", "name: chat", 12, '"chat" already names "chat"'),
        ("name: coder", "name: gpt-4o", 12, '"gpt-4o" already names "chat"'),
        ("[gpt-4o, team/chat]", "[gpt-4o, gpt-4o]", 9, '"gpt-4o" already names "chat"'),
        ("[gpt-4o, team/chat]", "[chat]", 9, '"chat" already names "chat"'),
        ("fallback: [small]", "fallback: [smal]", 10, 'there is no model "smal"; did you mean "small"?'),
        ("fallback: [small]", "fallback: [chat]", 10, '"chat" cannot fall back on "chat"'),
        ("fallback: [small]", "fallback: [gpt-4o]", 10, '"chat" cannot fall back on "gpt-4o"'),
        ("    pinned: true", "    fallback: [coder, chat]", 10, '"small", whose fallback leads back here'),
        ("nodes: [nas]", "nodes: [nsa]", 19, 'there is no node "nsa"; did you mean "nas"?'),
        ("pinned: true", "pinned: true\n    ttl: 10 min", 19, 'a pinned model stays: it has no "ttl"'),
        ("layout: tp2xdp2", "layout: tp2xdp2\n    replicas: 2", 12, 'leave "replicas" out'),
        ("layout: tp2xdp2", "layout: dp2xtp2", 11, "dp2xtp2"),
        ("layout: tp2xdp2", "layout: ''", 11, "layout"),
        ("ttl: 30 min", "ttl: 30", 15, "30 has no unit"),
        ("ttl: 30 min", "tll: 30 min", 15, 'did you mean "ttl"?'),
        ("min_stay: 5 s", "min_sty: 5 s", 20, 'did you mean "min_stay"?'),
        ("min_loaded: 1", "min_loaded: one", 20, "a whole number is expected"),
        ("name: coder", "name: my coder", 12, "my coder"),
        ("name: coder", "name: chat~2", 12, "chat~2"),
        ("    model: demo\n", "", 16, 'lacks the key "model"'),
        ("model: demo", "model: demo\n    engine: ollama", 18, "llamacpp"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_was_expected(old, new, line, said):
    assert old in GOOD
    with pytest.raises(BadInput) as caught:
        parse(GOOD.replace(old, new, 1), "my.yaml")
    assert said in caught.value.cause
    assert f"my.yaml:{line}: " in caught.value.cause
