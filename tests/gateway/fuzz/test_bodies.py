"""Any bytes as a body: they reach the engine as they came, or the client is told what is wrong with them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fuzz.raw import CHAT, EDITS, converse, edited, examples

ONCE = CHAT + b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
NAMES = st.sampled_from(
    [
        "model",
        "messages",
        "prompt",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "n",
        "tools",
        "user",
        "\ud800",
        "",
    ]
) | st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(2**63) - 1, 2**64, 1e308, float("nan"), float("inf"), -0.0])
    | st.floats()
    | st.sampled_from(["m", "f", "", "\ud83d", "\x00", "\u2028", "é", "data: x\n\n"])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
AFFIXES = st.sampled_from([b"", b"", b"", b" ", b"\n\t", b"\xef\xbb\xbf", b"\x00", b"{}", b",", b"\xff", b"/**/"])


def serialised(members, *, ascii_only, last_model):
    """A JSON object, also with the same name twice."""
    members = [*members, ("model", "m")] if last_model else members
    texts = (
        f"{json.dumps(name, ensure_ascii=True)}: {json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in members
    )
    return ("{" + ", ".join(texts) + "}").encode(errors="surrogatepass")


@given(
    members=MEMBERS,
    ascii_only=st.booleans(),
    last_model=st.sampled_from([True, True, False]),
    before=AFFIXES,
    after=AFFIXES,
    edits=st.just([]) | EDITS,
)
@examples(150)
async def test_any_body(gateway, engine, caplog, members, ascii_only, last_model, before, after, edits):
    async def fine(call):
        await call.whole(200, b"{}")

    engine.script = fine
    engine.calls.clear()
    body = edited(before + serialised(members, ascii_only=ascii_only, last_model=last_model) + after, edits)
    talk = await converse(gateway.port, [ONCE % (len(body), body)], quiet=5)
    ((status, _, answer),) = talk.answers
    assert status in {200, 400, 404}, answer
    assert status == 200 or set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}
    assert (status == 200) == bool(engine.calls)
    if engine.calls:
        came = engine.calls[0].body
        assert came == body or same_but_for_usage(came, body)
        text = body.decode()  # what is no UTF-8 is not passed on
        assert isinstance(json.loads(text), dict)  # nor what is no JSON object
    assert not caplog.records


def same_but_for_usage(came, sent):
    """Whether all that the gateway did was to ask a stream for its usage."""
    came, sent = (json.loads(body, parse_constant=str, parse_float=str) for body in (came, sent))
    asked = came.pop("stream_options")
    original = sent.pop("stream_options", None) or {}
    return came == sent and asked == {**original, "include_usage": True}


@pytest.mark.parametrize("depth", [100, 900, 5_000, 400_000])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}")])
async def test_nesting(gateway, engine, caplog, depth, brackets):
    inner = brackets[0] * depth + b"1" + brackets[1] * depth
    body = b'{"model": "m", "x": %b}' % inner
    talk = await converse(gateway.port, [ONCE % (len(body), body)], quiet=5)
    ((status, _, _),) = talk.answers
    assert status in ({200, 400, 413} if depth > 100 else {200})
    assert not caplog.records
