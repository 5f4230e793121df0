"""What the gateway's halves say to each other about a request; plain data that can also cross to another process.

The front (HTTP) turns a request into an `Ask`; the desk answers with a `Grant` in its own time, or an ApiError; when
the request is over, the front tells the `Outcome`. Times are seconds of one monotonic clock, tokens are the model's.
"""

from typing import Literal, TypeAlias

import msgspec

End: TypeAlias = Literal[
    "answered",  # the engine gave a whole answer
    "refused",  # the engine answered with an error of its own: 4xx, or a 5xx that it can say about itself
    "left",  # the client went, before the answer was complete
    "unreachable",  # no connection came about: nothing was sent
    "busy",  # the engine said 429 or 503: it did not run the request
    "broken",  # the connection ended before the answer's first byte
    "cut",  # it ended within the answer
    "stopped",  # the gateway goes down
]


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one key may do. None: no limit."""

    id: str  # public: it stands in logs, metrics and tables
    models: tuple[str, ...] | None = None  # public names
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # prompt and answer together
    tokens_per_day: int | None = None  # of a UTC day
    concurrent: int | None = None
    priority: int = 0  # higher goes first


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the desk must know of a request."""

    request_id: str
    route: str  # one of gateway.routes.FORWARDED
    model: str | None  # as the client said it
    key: str = ""  # a key's id; empty: nobody is asked for one
    prompt_tokens: int = 0  # estimated from the body's size
    output_tokens: int = 0  # the most that the client allows; 0: it does not say
    prefix: tuple[bytes, ...] = ()  # a digest of the prompt up to the end of each whole block (see wire.body)
    streams: bool = False
    patience: float | None = None  # seconds that it may wait before it goes to an engine; None: the desk's own bound


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One engine that serves a model. Rates are what was predicted or probed; the desk learns better ones."""

    id: str  # unique in the gateway: the deployment's name
    base_url: str  # "http://127.0.0.1:40123": scheme, host, port, no path
    served_name: str  # the model's name in the engine
    slots: int = 0  # requests that it computes at once; 0: not known, no bound
    embeddings: bool = False  # it embeds; it does not generate
    keep_alive: bool = False  # its server copes with connections that wait idle for their next request
    headers: tuple[tuple[str, str], ...] = ()  # sent with each request: the engine's own key, where it has one
    prefill_rate: float = 0.0  # prompt tokens a second; 0: not known
    decode_rate: float = 0.0  # tokens a second of one stream; 0: not known


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A request may go to this replica now."""

    number: int  # names the grant when it is settled
    model: str  # public name of the model that answers; a fallback's, where that one answers
    replica: Replica
    waited: float = 0.0  # seconds at the desk


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a granted request ended. Seconds count from the grant; tokens are the engine's own count, None: unknown."""

    end: End
    status: int = 0  # HTTP status of the engine; 0: none came
    seconds: float = 0.0
    first_token: float | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
