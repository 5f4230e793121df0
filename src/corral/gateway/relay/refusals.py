"""An engine's own error, in whatever form, turned into OpenAI's; pure, and knows no connection.

Forms met: {"error": {message, type, code}} (llama.cpp with the status as `code`, vLLM since 0.9), {"object": "error",
"message", "type", "code"} (older vLLM, SGLang), {"detail": ...} (FastAPI), {"error": "text"}, and plain text.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from corral.gateway.errors import INVALID, REFUSED, SERVER, ApiError

# llama.cpp: type "exceed_context_size_error"; vLLM: "maximum context length is N tokens", "longer than the maximum
# model length of N"; SGLang: "longer than the model's context length". Each as of its 2026 releases.
_TOO_LONG: Final = re.compile(
    r"exceed_context_size|maximum context length|maximum model length|(longer than|exceeds?) the [\w' ]*context",
    re.IGNORECASE,
)
_QUOTED: Final = 2000  # characters of a plain text that are repeated


def refusal(status: int, body: bytes) -> ApiError:
    """Turn an answer of status 400 or above into OpenAI's form; the status is kept, but for these two.

    A context that is too long is 400 `context_length_exceeded`, whatever the engine made of it. A 401 or 403 becomes
    502: the client's key is not forwarded, so it is the gateway that the engine refused, not the client.
    """
    fields = _fields(body)
    message = _text(fields.get("message")) or f"The engine answered with status {status} and gave no reason."
    kind = _text(fields.get("type")) or (INVALID if status < 500 else SERVER)
    if _TOO_LONG.search(kind) or _TOO_LONG.search(message):
        return ApiError(400, message, param=_text(fields.get("param")), code="context_length_exceeded")
    if status in {401, 403}:
        return ApiError(502, f"The engine refused the gateway: {message}", type=SERVER, code=REFUSED)
    return ApiError(status, message, type=kind, param=_text(fields.get("param")), code=_code(fields.get("code")))


def _fields(body: bytes) -> Mapping[str, Any]:
    """The engine's fields by OpenAI's names, as far as they can be found."""
    text = body.decode(errors="replace").strip()
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        return {} if text.startswith("<") else {"message": text[:_QUOTED]}
    if not isinstance(parsed, dict):
        return {"message": text[:_QUOTED]}
    whole = cast("dict[str, Any]", parsed)
    error = whole.get("error", whole)
    if isinstance(error, dict):
        fields = cast("dict[str, Any]", error)
        return fields if "message" in fields else {**fields, "message": _detail(fields.get("detail"))}
    return {"message": error}


def _detail(detail: object) -> str | None:
    return detail if detail is None or isinstance(detail, str) else json.dumps(detail)[:_QUOTED]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(value: object) -> str | None:
    """A code that says something; llama.cpp and vLLM put the HTTP status there, which is said already."""
    return value if isinstance(value, str) and not value.isdigit() else None
