"""How many tokens an engine says that it read and wrote, in whatever words; pure, and reads nothing else.

Words met: OpenAI's chat, completions and embeddings (`prompt_tokens`), OpenAI's responses (`input_tokens`, inside
`response` while streaming) and Anthropic's messages (`input_tokens` without what came out of the cache; inside
`message` in a stream's first event).
"""

from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

_Count: TypeAlias = int | None


class Usage(Struct, frozen=True):
    """Tokens by the engine's own count; None: it does not say."""

    prompt: _Count = None
    cached: _Count = None  # of the prompt's: those that needed no prefill
    output: _Count = None

    def updated(self, later: "Usage") -> "Usage":
        """What a later event of the same stream says goes before what an earlier one said."""
        return Usage(
            self.prompt if later.prompt is None else later.prompt,
            self.cached if later.cached is None else later.cached,
            self.output if later.output is None else later.output,
        )


class _Details(Struct):
    cached_tokens: _Count = None


class _Counts(Struct):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _Details | None = None
    input_tokens: _Count = None
    output_tokens: _Count = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None


class _Inner(Struct):
    usage: _Counts | None = None


class _Outer(Struct):
    usage: _Counts | None = None
    response: _Inner | None = None
    message: _Inner | None = None
    choices: list[msgspec.Raw] | None = None


_OUTER: Final = msgspec.json.Decoder(_Outer)
NOTHING: Final = Usage()


def read(text: bytes) -> tuple[Usage, bool]:
    """What an answer or a stream's event says, and whether it says nothing else: usage beside empty `choices`."""
    try:
        outer = _OUTER.decode(text)
    except (msgspec.DecodeError, RecursionError):  # another form: then it is not known
        return NOTHING, False
    inner = outer.response or outer.message
    counts = outer.usage or (inner.usage if inner else None)
    if counts is None:
        return NOTHING, False
    return _usage(counts), outer.usage is not None and outer.choices == []


def _usage(counts: _Counts) -> Usage:
    details = counts.prompt_tokens_details or counts.input_tokens_details
    prompt = counts.prompt_tokens
    if prompt is None and counts.input_tokens is not None:
        beside = (counts.cache_read_input_tokens or 0) + (counts.cache_creation_input_tokens or 0)
        prompt = counts.input_tokens + beside
    return Usage(
        prompt,
        counts.cache_read_input_tokens if details is None else details.cached_tokens,
        counts.output_tokens if counts.completion_tokens is None else counts.completion_tokens,
    )
