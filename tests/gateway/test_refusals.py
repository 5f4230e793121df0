"""Engines' errors, as they are, turned into OpenAI's form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.gateway.relay.refusals import refusal

NO_REASON = "The engine answered with status 500 and gave no reason."
VLLM_TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4990 in the messages, "
    "10 in the completion). Please reduce the length of the messages or completion."
)


def fields(status, body):
    error = refusal(status, body if isinstance(body, bytes) else json.dumps(body).encode())
    return error.status, error.message, error.type, error.param, error.code


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (  # llama.cpp
            501,
            {"error": {"code": 501, "message": "Not embedding.", "type": "not_supported_error"}},
            (501, "Not embedding.", "not_supported_error", None, None),
        ),
        (  # vLLM
            400,
            {"error": {"message": "bad top_p", "type": "BadRequestError", "param": "top_p", "code": 400}},
            (400, "bad top_p", "BadRequestError", "top_p", None),
        ),
        (  # older vLLM, SGLang
            404,
            {"object": "error", "message": "no x", "type": "NotFoundError", "param": None, "code": 404},
            (404, "no x", "NotFoundError", None, None),
        ),
        (422, {"detail": [{"loc": ["n"]}]}, (422, '[{"loc": ["n"]}]', "invalid_request_error", None, None)),
        (404, {"detail": "Not Found"}, (404, "Not Found", "invalid_request_error", None, None)),
        (500, {"error": "out of cheese"}, (500, "out of cheese", "server_error", None, None)),
        (500, b"Internal Server Error", (500, "Internal Server Error", "server_error", None, None)),
        (400, {"error": {"message": "m", "code": "own_code"}}, (400, "m", "invalid_request_error", None, "own_code")),
        (500, b"<html>bad</html>", (500, NO_REASON, "server_error", None, None)),
        (500, b"", (500, NO_REASON, "server_error", None, None)),
        (500, {"error": None}, (500, NO_REASON, "server_error", None, None)),
        (500, [1], (500, "[1]", "server_error", None, None)),
        (401, {"error": {"message": "Invalid API Key"}},
         (502, "The engine refused the gateway: Invalid API Key", "server_error", None, "upstream_refused")),
    ],
)  # fmt: skip
def test_forms(status, body, expected):
    assert fields(status, body) == expected


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": VLLM_TOO_LONG, "type": "BadRequestError", "code": 400}}),
        (400, {"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error"}}),
        (500, {"error": {"message": "the request exceeds the available context size", "type": "server_error"}}),
        (400, {"object": "error", "message": "The input (70 tokens) is longer than the model's context length (64)."}),
        (400, {"error": {"message": "The decoder prompt (length 9) is longer than the maximum model length of 4."}}),
    ],
)
def test_a_context_that_is_too_long_has_openais_code(status, body):
    got = fields(status, body)
    assert (got[0], got[2], got[4]) == (400, "invalid_request_error", "context_length_exceeded")


FIELDS = st.sampled_from(["error", "message", "type", "code", "param", "detail"])
JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner), max_leaves=10
)


@given(st.integers(400, 599), st.binary() | JSON)
def test_whatever_an_engine_says_has_the_form(status, body):
    error = refusal(status, body if isinstance(body, bytes) else json.dumps(body).encode())
    said = json.loads(error.body())["error"]
    assert set(said) == {"message", "type", "param", "code"}
    assert isinstance(said["message"], str)
    assert said["message"]
    assert isinstance(said["type"], str)
    assert all(value is None or isinstance(value, str) for value in said.values())
    assert error.event().count(b"\n") == 2
