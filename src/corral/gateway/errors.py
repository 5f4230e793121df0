"""What the gateway says when it cannot answer, in OpenAI's form and words; knows no engine and sends nothing.

`type` is one of OpenAI's, because clients branch on it; `code` says what exactly, and is this project's where OpenAI
has none. OpenAI's clients repeat a 5xx by themselves; `x-should-retry: false` is how they are told that it is no use.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Final

from corral.units import format_bytes

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"
FORBIDDEN: Final = "permission_error"
LIMITED: Final = "rate_limit_error"

INVALID_KEY: Final = "invalid_api_key"

UNREACHABLE: Final = "upstream_unreachable"
DIED: Final = "upstream_died"
REFUSED: Final = "upstream_refused"
NO_OTHER: Final = "no_other_replica"
RATE_LIMIT: Final = "rate_limit_exceeded"
UPSTREAM_CODES: Final = frozenset((UNREACHABLE, DIED, REFUSED))  # an engine did not do its part

# A model loads in seconds to minutes, and OpenAI's clients wait at most 60 s for a Retry-After: a few polls a minute.
LOADING_RETRY_SECONDS: Final = 5
_LONGEST_RETRY: Final = 60  # seconds; OpenAI's clients do not wait longer, but repeat at once
_ROOM_RETRY_SECONDS: Final = 5.0
_QUOTED: Final = 120  # characters of a client's own text that an error repeats
_NO_RETRY: Final = ((b"x-should-retry", b"false"),)


class ApiError(Exception):
    """An answer that is an error: an HTTP status and OpenAI's {"error": {message, type, param, code}}."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,  # noqa: A002 - the field's name in OpenAI's form
        param: str | None = None,
        code: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """The answer's JSON; ASCII on one line."""
        fields = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": fields}).encode()

    def event(self) -> bytes:
        """The same as a server-sent event, for a stream that has already begun."""
        return b"data: " + self.body() + b"\n\n"


def not_http() -> ApiError:
    """What a client sent is no HTTP/1.1, or could be read in two ways."""
    return ApiError(400, "What was received is not a well-formed HTTP/1.1 request.", code="invalid_http")


def repeated_header(name: str) -> ApiError:
    """A header that may stand once came twice."""
    return ApiError(400, f"The header {_quote(name)} was sent more than once.", code="repeated_header")


def compressed(how: str) -> ApiError:
    """The body is compressed."""
    message = f"A body compressed with {_quote(how)} is not read here; send it as it is."
    return ApiError(415, message, code="unsupported_encoding")


def head_too_large(limit: int) -> ApiError:
    """The request line and the headers are larger than `limit` bytes, or too many."""
    message = f"The request's headers are too many, or larger than the limit of {format_bytes(limit)}."
    return ApiError(431, message, code="headers_too_large")


def too_slow() -> ApiError:
    """The request did not arrive in time."""
    return ApiError(408, "The request did not arrive in time.", code="request_timeout")


def broken_body(why: str) -> ApiError:
    """The body is no JSON object."""
    return ApiError(400, f"The request's body is not a JSON object: {why}.", code="invalid_json")


def too_large(limit: int) -> ApiError:
    """The body is larger than `limit` bytes."""
    message = f"The request's body is larger than the limit of {format_bytes(limit)}."
    return ApiError(413, message, code="request_too_large")


def too_many_connections() -> ApiError:
    """The server has as many connections as it may have."""
    message = "The server has too many connections; try again later."
    return ApiError(503, message, type=SERVER, code="too_many_connections", headers=[(b"retry-after", b"5")])


def no_room() -> ApiError:
    """The bodies that are held for other requests leave no memory for this one."""
    message = "The server holds too many large requests at the moment; try again later."
    return ApiError(503, message, type=SERVER, code="server_busy", headers=_retry(_ROOM_RETRY_SECONDS)[1])


def unknown_path(path: str, known: Iterable[str]) -> ApiError:
    """No route has this path."""
    hint = f" Use /v1{path}." if f"/v1{path}" in known else ""
    return ApiError(404, f"There is nothing at {_quote(path)}.{hint}", code="unknown_url")


def wrong_method(method: str, path: str, allowed: Sequence[str]) -> ApiError:
    """The path exists, but not for this method."""
    names = ", ".join(allowed)
    message = f"{path} takes {names}, not {_quote(method)}."
    return ApiError(405, message, code="method_not_allowed", headers=[(b"allow", names.encode())])


def foreign_host(host: str) -> ApiError:
    """The Host header names a host that this server was not told about: perhaps a rebound DNS name."""
    message = f"The host name {_quote(host)} is not one of this server's; use its IP address or localhost."
    return ApiError(403, message, type=FORBIDDEN, code="host_not_allowed")


def foreign_origin(origin: str) -> ApiError:
    """A web page from elsewhere asks, through somebody's browser."""
    message = f"Web pages from {_quote(origin)} may not use this server."
    return ApiError(403, message, type=FORBIDDEN, code="origin_not_allowed")


def no_key() -> ApiError:
    """A key is needed, and none came."""
    return _unauthorized("No API key was given: send one as `Authorization: Bearer KEY`.")


def no_key_yet() -> ApiError:
    """A key is needed, and there is none that could come."""
    return _unauthorized("This server asks for an API key, and has none yet: `corral keys create NAME` makes one.")


def wrong_key() -> ApiError:
    """No key has this secret, or the one that had it is revoked."""
    return _unauthorized("This API key is not known here: it is wrong, or was revoked.")


def expired_key() -> ApiError:
    """The key was good once."""
    return _unauthorized("This API key has expired.")


def several_keys() -> ApiError:
    """The request's headers name different keys."""
    return _unauthorized("The request carries more than one API key: send one.")


def _unauthorized(message: str) -> ApiError:
    # OpenAI's code for all of them, on which clients branch.
    return ApiError(401, message, code=INVALID_KEY, headers=[(b"www-authenticate", b"Bearer")])


def permission_denied() -> ApiError:
    """The key is good, but not for this."""
    message = "This path is for admin keys: `corral keys create NAME --admin` makes one."
    return ApiError(403, message, type=FORBIDDEN, code="permission_denied")


def wrong_model_type() -> ApiError:
    """`model` is there but no string."""
    return ApiError(400, "'model' must be a string.", param="model", code="invalid_type")


def missing_model(served: Sequence[str]) -> ApiError:
    """No model is named and more than one could be meant, or none."""
    return ApiError(400, f"The request names no model; {_served(served)}.", param="model", code="missing_model")


def unknown_model(asked: str, served: Sequence[str]) -> ApiError:
    """No deployment has this name."""
    message = f"The model {_quote(asked)} does not exist; {_served(served)}."
    return ApiError(404, message, param="model", code="model_not_found")


def only_embeds(name: str) -> ApiError:
    """A generation is asked of an embedding model."""
    message = f"The model '{name}' makes embeddings and does not generate; use /v1/embeddings."
    return ApiError(400, message, param="model", code="unsupported_model")


def only_generates(name: str) -> ApiError:
    """Embeddings are asked of a model that generates."""
    message = f"The model '{name}' generates and does not make embeddings; use an embedding model."
    return ApiError(400, message, param="model", code="unsupported_model")


def model_not_allowed(asked: str, allowed: Sequence[str]) -> ApiError:
    """The model exists, but not for this key."""
    others = f"it may use {', '.join(allowed)}" if allowed else "it may use none of this server's"
    message = f"This key may not use the model {_quote(asked)}; {others}."
    return ApiError(403, message, type=FORBIDDEN, param="model", code="model_not_allowed")


def revoked_key() -> ApiError:
    """The key is not known any more."""
    return ApiError(401, "This key was revoked.", code=INVALID_KEY, headers=_NO_RETRY)


def limit_reached(limit: str, seconds: float) -> ApiError:
    """A key's limit is reached; `limit` says which, as a sentence; in so many seconds (inf: never) there is room."""
    if math.isinf(seconds):
        return ApiError(429, limit, type=LIMITED, code=RATE_LIMIT, headers=_NO_RETRY)
    whole, headers = _retry(seconds)
    return ApiError(429, f"{limit} Try again in {whole} s.", type=LIMITED, code=RATE_LIMIT, headers=headers)


def server_busy(name: str, wait: float, allowed: float) -> ApiError:
    """The wait for the model would be, or became, longer than the request may wait."""
    whole, headers = _retry(wait)
    message = (
        f"The model '{name}' is busy: this request would wait about {whole} s, and may wait {math.floor(allowed)} s."
    )
    return ApiError(503, message, type=SERVER, code="server_busy", headers=headers)


def queue_full(name: str, wait: float) -> ApiError:
    """As many requests wait for the model as may."""
    whole, headers = _retry(wait)
    message = f"Too many requests wait for the model '{name}'. Try again in {whole} s."
    return ApiError(503, message, type=SERVER, code="server_busy", headers=headers)


def no_replica(name: str, seconds: float) -> ApiError:
    """No engine of the model answers properly; in so many seconds one is tried again."""
    whole, headers = _retry(seconds)
    message = f"No engine of the model '{name}' answers at the moment; one is tried again in {whole} s."
    return ApiError(503, message, type=SERVER, code="engine_failing", headers=headers)


def all_tried(name: str) -> ApiError:
    """Every engine of the model was tried for this request."""
    message = f"Every engine of the model '{name}' failed to take this request."
    return ApiError(502, message, type=SERVER, code=UNREACHABLE)


def still_loading(name: str, stage: str, fraction: float | None, seconds: float | None) -> ApiError:
    """The model loads for longer than the request may wait; seconds left as far as known."""
    share = "" if fraction is None else f" ({fraction:.0%})"
    whole, headers = _retry(LOADING_RETRY_SECONDS if seconds is None else seconds)
    message = f"The model '{name}' is still loading: {stage}{share}. Try again in {whole} s."
    return ApiError(503, message, type=SERVER, code="model_loading", headers=headers)


def cannot_load(name: str, cause: str) -> ApiError:
    """The model is not loaded and cannot be now."""
    message = f"The model '{name}' is not loaded and cannot be: {cause}"
    return ApiError(503, message, type=SERVER, code="model_unavailable", headers=_NO_RETRY)


def failed(name: str, cause: str, seconds: float | None = None) -> ApiError:
    """The deployment failed and is not on its way; `seconds`: until it may be asked for again, if that is of use."""
    message = f"The model '{name}' is not running: {cause}"
    headers = _NO_RETRY if seconds is None else ((b"retry-after", str(max(1, math.ceil(seconds))).encode()),)
    return ApiError(503, message, type=SERVER, code="model_failed", headers=headers)


def unreachable(name: str) -> ApiError:
    """Nothing was sent: no connection to the engine came about."""
    message = f"The engine of the model '{name}' does not accept connections."
    return ApiError(502, message, type=SERVER, code=UNREACHABLE)


def died(name: str) -> ApiError:
    """The engine closed the connection, or broke HTTP, before its answer was complete."""
    message = f"The engine of the model '{name}' ended the connection before its answer was complete."
    return ApiError(502, message, type=SERVER, code=DIED)


def not_streamed(name: str) -> ApiError:
    """A stream was asked for, comments were sent already, and the engine answered with something else."""
    message = f"The engine of the model '{name}' did not answer with a stream."
    return ApiError(502, message, type=SERVER, code=DIED)


def no_other() -> ApiError:
    """A request did not run and there is no other replica; never told to a client, who gets the first one's error."""
    return ApiError(503, "No other replica can answer.", type=SERVER, code=NO_OTHER)


def stopping() -> ApiError:
    """The gateway goes down and the grace given to running requests is over."""
    return ApiError(503, "The server is shutting down.", type=SERVER, code="server_stopping")


def internal(request_id: str) -> ApiError:
    """A bug of the gateway's own; its log has the traceback under this id."""
    message = f"The gateway failed to handle this request; its log says more under {request_id}."
    return ApiError(500, message, type=SERVER, code="internal_error")


def _retry(seconds: float) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Whole seconds, rounded up, and the headers that say them."""
    whole = max(1, math.ceil(seconds))
    headers = [(b"retry-after", str(whole).encode())]
    if whole > _LONGEST_RETRY:
        headers += _NO_RETRY
    return whole, headers


def _served(names: Sequence[str]) -> str:
    return f"this server has {', '.join(names)}" if names else "this server has none yet"


def _quote(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "...")
