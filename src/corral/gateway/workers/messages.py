"""What a worker process and the head say to each other; plain data, and how it is framed on a stream.

A worker speaks HTTP with clients and engines. Everything that must be one for all workers (limits, queue, routing,
metrics, usage) is the head's, and one round trip away: `Arrive` is answered by `Granted` or `Refused`.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from corral.errors import CorralError
from corral.gateway.desk.values import Ask, Grant, Outcome
from corral.gateway.errors import ApiError
from corral.gateway.front import FrontSettings
from corral.gateway.keyring import KeyringState
from corral.gateway.record import Record

FRAME_LIMIT: Final = 128 * 1024 * 1024  # bytes; a body for the head's own API is the longest
_PREFIX: Final = 4  # bytes of a frame's length, big endian


class _Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind", array_like=True):
    pass


# From a worker ------------------------------------------------------------------------------------------------------


class Arrive(_Message, frozen=True):
    """A request is at the desk; `id` is the worker's own number for it."""

    id: int
    ask: Ask


class Leave(_Message, frozen=True):
    """Its client went while it waited, or just when it was granted."""

    id: int


class Settle(_Message, frozen=True):
    """A granted request is over."""

    number: int
    outcome: Outcome


class Again(_Message, frozen=True):
    """A granted request did not run: is there another replica? Answered like Arrive."""

    id: int
    number: int
    outcome: Outcome


class Ended(_Message, frozen=True):
    """An exchange is over, for metrics, usage and the access log."""

    record: Record
    line: str = ""  # of the access log, if there is one


class Relayed(_Message, frozen=True):
    """An exchange that the head itself answers: models, health, metrics, the admin API."""

    id: int
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    client: str


class Serving(_Message, frozen=True):
    """The worker accepts connections."""


# From the head ------------------------------------------------------------------------------------------------------


class Configure(_Message, frozen=True):
    """What a worker must know before it answers anybody; said again when it changes."""

    settings: FrontSettings
    keys: KeyringState
    tls: tuple[str, str] | None  # paths of certificate and key


class Granted(_Message, frozen=True):
    """The answer to Arrive or Again."""

    id: int
    grant: Grant


class Refused(_Message, frozen=True):
    """The other answer: an ApiError."""

    id: int
    status: int
    message: str
    type: str
    param: str | None
    code: str | None
    headers: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def of(cls, id: int, error: ApiError) -> "Refused":  # noqa: A002 - as the field
        """The error as a message."""
        return cls(id, error.status, error.message, error.type, error.param, error.code, error.headers)

    def error(self) -> ApiError:
        """The message as the error."""
        return ApiError(
            self.status, self.message, type=self.type, param=self.param, code=self.code, headers=self.headers
        )


class Waits(_Message, frozen=True):
    """It waits; the text is for people: "third in the queue", "loading weights, 40 %"."""

    id: int
    text: str


class Answered(_Message, frozen=True):
    """The answer to Relayed."""

    id: int
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Finish(_Message, frozen=True):
    """Accept no more, and end after so many seconds at most."""

    grace: float


FromWorker: TypeAlias = Arrive | Leave | Settle | Again | Ended | Relayed | Serving
FromHead: TypeAlias = Configure | Granted | Refused | Waits | Answered | Finish


class ChannelBroken(CorralError):
    """What came over a worker's socket is no message."""

    def __init__(self, why: str) -> None:
        super().__init__(f"A gateway worker's channel broke: {why}.", "The worker is started anew.")


def frame(message: FromWorker | FromHead) -> bytes:
    """A message as it goes over the stream."""
    encoded = msgspec.msgpack.encode(message)
    return len(encoded).to_bytes(_PREFIX, "big") + encoded


class Frames:
    """Cuts a stream of bytes into encoded messages, however it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now; ChannelBroken when a length is absurd."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _PREFIX:
            length = int.from_bytes(buffer[at : at + _PREFIX], "big")
            if length > FRAME_LIMIT:
                raise ChannelBroken(f"a message of {length} bytes")
            end = at + _PREFIX + length
            if len(buffer) < end:
                break
            yield bytes(buffer[at + _PREFIX : end])
            at = end
        del buffer[:at]
