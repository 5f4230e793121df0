"""What is seen in a stream as it passes by, wherever it is cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.relay.events import Events
from corral.gateway.relay.usage import Usage, read

USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}}
DONE = b"data: [DONE]\n\n"


def event(value, end="\n"):
    return f"data: {json.dumps(value)}{end}{end}".encode()


def delta(text=None, **more):
    return {"choices": [{"delta": {"content": text}, "finish_reason": None}], **more}


ONLY_USAGE = {"id": "c", "choices": [], "usage": USAGE}


def run(pieces, *, hide_usage=False):
    events = Events(hide_usage=hide_usage)
    out = b"".join([events.feed(piece) for piece in pieces])
    return events, out + events.end()


def test_a_chat_with_the_usage_that_nobody_asked_for():
    said = [event(delta("")), event(delta("a")), event(delta("b", usage=None))]
    events, out = run([*said, event(ONLY_USAGE), DONE], hide_usage=True)
    assert out == b"".join([*said, DONE])
    assert events.usage == Usage(9, 5, 4)
    assert events.count == 4


def test_the_usage_that_the_client_asked_for_stays():
    events, out = run([event(delta("a")), event(ONLY_USAGE), DONE])
    assert out == event(delta("a")) + event(ONLY_USAGE) + DONE
    assert events.usage.output == 4


@pytest.mark.parametrize(
    "kept",
    [
        {"choices": [{"delta": {}}], "usage": USAGE},  # counts of the whole so far, in every chunk
        {"choices": []},  # Azure's first event
        {"choices": [], "usage": None},
        {"usage": USAGE},
        delta('data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n'),
    ],
)
def test_nothing_else_is_taken_out(kept):
    assert run([event(kept)], hide_usage=True)[1] == event(kept)


@pytest.mark.parametrize(
    ("value", "spoken"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"role": "assistant", "content": None, "reasoning_content": None}}]}, False),
        ({"choices": [{"delta": {"content": "\n"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {"reasoning": "hm"}}]}, True),
        ({"choices": [{"delta": {"tool_calls": [{"function": {"name": "f"}}]}}]}, True),
        ({"choices": [{"delta": {"tool_calls": []}}]}, False),
        ({"choices": [{"text": "a"}]}, True),
        ({"choices": [{"text": ""}]}, False),
        ({"type": "response.output_text.delta", "delta": "a"}, True),
        ({"type": "response.created", "response": {"output": []}}, False),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, False),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, True),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "a"}}, True),
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_when_the_model_first_says_something(value, spoken, separators):
    text = b"data: " + json.dumps(value, separators=separators).encode() + b"\n\n"
    assert run([text])[0].spoken is spoken


def test_text_that_looks_like_a_field_is_text():
    assert run([event({"x": '"content": "a", "usage": {"prompt_tokens": 1}'})])[0].spoken is False


def test_the_other_dialects_say_their_usage_in_parts():
    anthropic = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "cache_read_input_tokens": 7}}},
        {"type": "message_delta", "usage": {"output_tokens": 11}},
    ]
    assert run([event(part) for part in anthropic])[0].usage == Usage(10, 7, 11)
    inner = {"usage": {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}}
    assert run([event({"type": "response.completed", "response": inner})])[0].usage == Usage(3, 1, 2)


@pytest.mark.parametrize(
    "text", [b"", b"[1]", b'{"usage": 7}', b'{"usage": {"prompt_tokens": "x"}}', b"\xff", b"{" * 99999]
)
def test_an_answer_without_usage_has_none(text):
    assert read(text) == (Usage(), False)


def test_a_whole_answer_says_its_usage():
    body = {"choices": [{"message": {"content": "usage"}}], "usage": USAGE}
    assert read(json.dumps(body).encode()) == (Usage(9, 5, 4), False)
    assert read(b'{"data": [], "usage": {"prompt_tokens": 2, "total_tokens": 2}}')[0] == Usage(2, None, None)


PIECES = st.sampled_from(
    [
        b"\n", b"\r\n", b"\r", b"data:", b"data: ", b": comment\n\n", b"x", b"[DONE]", DONE, b"event: a\n",
        event(ONLY_USAGE), event(ONLY_USAGE, "\r\n"), event(delta("a")), event(delta("b"), "\r\n"), event(delta("")),
        b'"usage": {', b'data: {"choices": [], "usage": {"prompt_tokens": 3}}', b'{"choices":',
    ]
)  # fmt: skip


@given(st.lists(PIECES | st.binary(max_size=5), max_size=12).map(b"".join), st.data(), st.booleans())
def test_where_a_stream_is_cut_makes_no_difference(stream, data, hide_usage):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12), label="cuts"))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    once, out_once = run([stream], hide_usage=hide_usage)
    cut, out_cut = run(pieces, hide_usage=hide_usage)
    assert out_cut == out_once
    assert (cut.count, cut.spoken, cut.usage) == (once.count, once.spoken, once.usage)
    if not hide_usage:
        assert out_cut == stream


@given(st.lists(st.sampled_from([event(delta("a")), event(delta("b"), "\r\n"), b": ping\n\n", DONE])), st.data())
def test_only_the_added_event_is_missing(parts, data):
    at = data.draw(st.integers(0, len(parts)))
    stream = b"".join([*parts[:at], event(ONLY_USAGE), *parts[at:]])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert run(pieces, hide_usage=True)[1] == b"".join(parts)


def test_without_hiding_every_byte_goes_on_at_once():
    events = Events()
    assert [events.feed(piece) for piece in (b"da", b"ta: {", b"}\n", b"\n")] == [b"da", b"ta: {", b"}\n", b"\n"]
    assert events.count == 1


@pytest.mark.parametrize("hide_usage", [False, True])
def test_an_endless_event_is_not_kept(hide_usage):
    part = b"x" * 100_000
    events = Events(hide_usage=hide_usage)
    out = events.feed(b"data: ")
    for _ in range(50):
        out += events.feed(part)
        assert len(events._rest) < 2_000_000
    out += events.feed(b"\n\n" + event(delta("a"))) + events.end()
    assert out == b"data: " + part * 50 + b"\n\n" + event(delta("a"))
    assert events.count == 2
