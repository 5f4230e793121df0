"""What is read in a request's body, and the two changes that are ever made to it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.errors import ApiError
from corral.gateway.wire import body as bodies

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
NAMES = st.sampled_from(
    ["model", "stream", "stream_options", "max_tokens", "tools", "messages", "prompt", "input", "x"]
)
OBJECTS = st.dictionaries(NAMES, VALUES)


def written(value, **spacing):
    return json.dumps(value, **spacing).encode()


def test_the_fields_that_are_looked_at():
    read = bodies.read(
        b'{"stream": true, "messages": [{"role": "user"}], "model": "a\\u00e9", "max_tokens": 7, "tools": [1],'
        b' "stream_options": {"include_usage": true}, "top_k": 1e999}'
    )
    assert (read.model, read.streams, read.tells_usage, read.output_tokens) == ("aé", True, True, 7)
    assert [bytes(part) for part in read.prompt] == [b"[1]", b'[{"role": "user"}]']  # tools first, as templates do


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", (None, False, False, 0)),
        (b'{"model": null, "stream": null, "stream_options": null, "max_tokens": null}', (None, False, False, 0)),
        (b'{"model": "", "stream": 1, "stream_options": [], "max_tokens": "7"}', (None, False, False, 0)),
        (b'{"max_tokens": -1, "max_completion_tokens": 1.5, "max_output_tokens": 3}', (None, False, False, 3)),
        (b'{"max_tokens": %b, "stream_options": {"include_usage": 1}}' % (b"9" * 5000), (None, False, False, 0)),
        (b'{"mod\\u0065l": "m", "max_completion_tokens": 5, "max_tokens": 6}', ("m", False, False, 5)),
        (b'{"model": "a", "model": "b"}', ("b", False, False, 0)),  # as engines' parsers have it: the last
    ],
)
def test_fields_that_are_odd(text, expected):
    read = bodies.read(text)
    assert (read.model, read.streams, read.tells_usage, read.output_tokens) == expected


@pytest.mark.parametrize("text", [b'{"a": "\\ud83d"}', b'{"a": "\\ud83d and", "b": "\\\\ud83d \\ude00\\ud83d\\ude00"}'])
def test_half_an_emoji_is_no_reason_to_refuse(text):
    assert bodies.read(b'{"model": "m", ' + text[1:]).model == "m"
    changed = json.loads(bodies.renamed(text, "n"))
    assert changed.pop("model") == "n"
    whole = {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for name, value in changed.items()
    }
    assert whole == changed  # nothing half is left, and
    assert all("\\ud83d" in value for name, value in changed.items() if name == "b")  # no backslash was taken for one


def refuse(_constant):
    raise ValueError


@given(st.binary(max_size=60) | OBJECTS.map(written).flatmap(lambda text: st.integers(0, 99).map(lambda n: text[:n])))
def test_whatever_comes_is_read_or_refused_for_a_reason(text):
    refused = None
    try:
        bodies.read(text)
    except ApiError as error:
        refused = (error.status, error.code)
    if refused:
        assert refused in {(400, "invalid_json"), (400, "invalid_type")}
        with pytest.raises((ValueError, TypeError, AttributeError)):
            "".join([json.loads(text.decode(), parse_constant=refuse).get("model") or ""])


@given(OBJECTS, st.booleans())
def test_the_model_is_the_one_that_json_reads(value, spaced):
    text = written(value, separators=None if spaced else (",", ":"))
    model = value.get("model")
    if model is None or isinstance(model, str):
        assert bodies.read(text).model == (model or None)
    else:
        with pytest.raises(ApiError, match="must be a string"):
            bodies.read(text)


def pieces(text):
    return bodies._OBJECT.decode(text)


@given(OBJECTS, st.text(), st.booleans())
def test_renaming_changes_nothing_else_by_a_byte(value, name, ascii_only):
    text = written(value, ensure_ascii=ascii_only)
    before = pieces(text)
    after = pieces(bodies.renamed(text, name))
    assert json.loads(bytes(after.pop("model"))) == name
    before.pop("model", None)
    assert {key: bytes(part) for key, part in after.items()} == {key: bytes(part) for key, part in before.items()}


OPTIONS = st.none() | st.dictionaries(st.sampled_from(["include_usage", "chunk"]), st.booleans())


@given(OBJECTS, OPTIONS, st.booleans())
def test_asking_for_usage_changes_nothing_else(value, options, given_):
    value = {**value, "stream": True, **({"stream_options": options} if given_ else {})}
    if not given_:
        value.pop("stream_options", None)
    text = written(value)
    changed = bodies.with_usage(text)
    assert bodies.read(changed.replace(b'"model"', b'"mod"')).tells_usage
    expected = value | {"stream_options": {**((options if given_ else None) or {}), "include_usage": True}}
    assert json.loads(changed) == expected
    if not given_ and b'"stream_options"' not in text:
        assert changed.replace(b'"stream_options":{"include_usage":true},', b"", 1) == text


def test_asking_for_usage_in_an_empty_object():
    assert json.loads(bodies.with_usage(b" { } ")) == {"stream_options": {"include_usage": True}}


def test_stream_options_that_are_none_are_left_to_the_engine():
    assert bodies.with_usage(b'{"stream_options": 7}') == b'{"stream_options": 7}'


def chat(*turns):
    messages = [{"role": "user", "content": turn} for turn in turns]
    return bodies.read(written({"model": "m", "messages": messages}))


def test_a_conversation_that_goes_on_keeps_its_prefix():
    first, second = chat("a" * 5000), chat("a" * 5000, "b" * 5000)
    shared = first.prefix()
    assert len(shared) == 4
    assert second.prefix()[:4] == shared
    assert len(second.prefix()) > 8
    assert chat("c" + "a" * 4999).prefix()[0] != shared[0]


def test_tools_are_part_of_the_prefix():
    text = {"messages": [{"content": "a" * 3000}]}
    plain, tooled = (bodies.read(written(value)) for value in (text, {**text, "tools": ["t"]}))
    assert plain.prefix()[0] != tooled.prefix()[0]


def test_digests_are_few_however_long_the_prompt_is():
    assert chat("a" * 100).prefix() == ()
    long = chat("a" * 1_000_000).prefix()
    assert len(set(long)) == len(long) <= 64
    assert {len(digest) for digest in long} == {8}
    assert len(chat("a" * 9_000_000).prefix()) == 64
    assert chat("a" * 9_000_000).prefix()[: len(long)] == long


def test_tokens_are_estimated_from_the_prompt_alone():
    assert 1000 <= chat("word" * 1000).prompt_tokens() <= 1020
    assert bodies.read(b'{"model": "m", "user": "%b"}' % (b"x" * 9000)).prompt_tokens() == 0


def test_a_picture_counts_as_a_picture():
    url = "data:image/png;base64," + "A" * 1_000_000
    read = bodies.read(written({"messages": [{"content": [{"image_url": {"url": url}}, {"text": "what is it?"}]}]}))
    assert 1024 <= read.prompt_tokens() <= 1060
