"""Asks an engine for tokens, to know that it generates; knows no rank and no gateway."""

import time
from typing import Any

import aiohttp
from pydantic import BaseModel

from corral.engines.base import Api
from corral.values import Value

# Answers that mean "not yet": llama-server says 503 while it loads, a port that is not open refuses.
NOT_YET = frozenset({404, 425, 429, 503})


class Generated(Value):
    """What came back of a request for a few tokens."""

    tokens: int
    seconds: float


class _Choice(BaseModel):
    text: str | None = None
    finish_reason: str | None = None


class _Usage(BaseModel):
    completion_tokens: int = 0


class _Embedding(BaseModel):
    embedding: list[float] = []


class _Answer(BaseModel):
    """The part of an OpenAI answer that tells whether tokens came."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    data: list[_Embedding] = []


class Refused(Value):
    """What an engine said instead of generating."""

    status: int
    text: str


async def generate(
    session: aiohttp.ClientSession,
    base_url: str,
    api: Api,
    model: str,
    *,
    tokens: int,
    timeout: float,  # noqa: ASYNC109 - of the whole request
) -> Generated | Refused | None:
    """Ask for tokens (or an embedding); None when the engine does not answer yet."""
    path, body = _request(api, model, tokens)
    started = time.monotonic()
    try:
        async with session.post(
            f"{base_url}{path}", json=body, timeout=aiohttp.ClientTimeout(total=timeout)
        ) as response:
            if response.status in NOT_YET:
                return None
            if response.status != 200:
                return Refused(status=response.status, text=(await response.text())[:400])
            answer = _Answer.model_validate_json(await response.read())
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None
    count = _count(api, answer)
    if count == 0:
        return Refused(status=200, text="the answer holds no token")
    return Generated(tokens=count, seconds=time.monotonic() - started)


def _request(api: Api, model: str, tokens: int) -> tuple[str, dict[str, Any]]:
    if api.embeddings:
        return "/v1/embeddings", {"model": model, "input": "ready?"}
    return "/v1/completions", {"model": model, "prompt": "Hello", "max_tokens": tokens, "temperature": 0}


def _count(api: Api, answer: _Answer) -> int:
    """Tokens that came back: from `usage`, else one for any text; one for an embedding."""
    if api.embeddings:
        return 1 if answer.data and answer.data[0].embedding else 0
    # A model may end at once: the end token is a token, though some engines do not count it.
    ended = any(choice.text or choice.finish_reason in {"stop", "length"} for choice in answer.choices)
    return max(answer.usage.completion_tokens if answer.usage else 0, int(ended))
