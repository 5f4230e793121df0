"""Carries one request to an engine and the engine's answer back, as bytes; knows no route, no model and no table.

Decisions that are easy to get wrong:

- A request is sent once. What was sent may have run, so nothing is repeated after a byte went out.
- A connection is used once, unless the upstream says otherwise. llama.cpp's server holds a thread for each connection,
  idle or not, and does not always start another for the next one: beside idle connections a request can wait for
  seconds. uvicorn (vLLM, SGLang) has no such trouble, and drops an idle connection after 5 s; here it is dropped after
  2 s, so that one that breaks when it is used again means that the engine died, and not that both moved at once.
- The status is held back until the first byte of the body. vLLM sends its headers before prefill; an engine that dies
  in prefill is then still a 502 that clients repeat, not a broken 200.
- A stream of events is passed on chunk by chunk, unread. Any other body is collected up to 1 MiB first, so that an
  engine that dies half way through is a 502; a longer one is passed on from there.
- No deadline on an answer: a prefill may take minutes. Only connecting has one.
"""

import io
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import aiohttp
from yarl import URL

from corral.gateway import errors
from corral.gateway.desk.values import Outcome, Replica
from corral.gateway.errors import ApiError
from corral.gateway.relay.refusals import refusal
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.headers import to_client, to_engine
from corral.units import KIB, MIB

# llama.cpp lets 128 connections wait to be accepted; beyond, the kernel tries again after 1, 3 and 7 s.
_CONNECT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 2.0
_COLLECTED: Final = 1 * MIB
_BUSY: Final = frozenset((429, 503))  # it says itself that it did not run the request
_REFUSAL: Final = 256 * KIB  # of an engine's error that is read
_WRITTEN_AT_ONCE: Final = 256 * KIB  # larger bodies go out in pieces, or a cancelled one would still be flushed whole


class NoAnswer(Exception):
    """A replica gave nothing that can be passed on, and no byte has gone to the client."""

    def __init__(self, outcome: Outcome, error: ApiError) -> None:
        super().__init__(error.message)
        self.outcome = outcome  # unreachable, busy, refused or broken
        self.error = error  # what the client is told, if nobody else answers


class Answer:
    """An engine's answer whose first bytes are here. Pass it on or close it."""

    __slots__ = ("_response", "first", "headers", "status", "whole")

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, *, whole: bool) -> None:
        self._response = response
        self.status = response.status
        self.headers = to_client(response.raw_headers)
        self.first = first
        self.whole = whole  # `first` is all

    @property
    def streams(self) -> bool:
        """Whether it is a stream of events."""
        return self._response.content_type == "text/event-stream"

    async def pass_on(self, exchange: Exchange, name: str) -> None:
        """Send it to the client; ApiError when the engine breaks off."""
        try:
            if self.streams:
                await self._stream(exchange)
            elif exchange.started:  # comments were sent, since a stream was asked for
                raise errors.not_streamed(name)
            elif self.whole:
                await exchange.reply(self.status, self.first, self.headers)
            else:
                await self._long(exchange)
        except (aiohttp.ClientError, OSError) as error:
            raise errors.died(name) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection, unless it was read to its end: so the engine learns that nobody waits any more."""
        self._response.close()

    async def _stream(self, exchange: Exchange) -> None:
        read = self._response.content.readany
        chunk = self.first
        if chunk:
            exchange.first_chunk = time.monotonic()
        await exchange.start_stream(self.status, self.headers)
        while chunk:
            await exchange.write(chunk)
            chunk = await read()
        await exchange.finish()

    async def _long(self, exchange: Exchange) -> None:
        headers = self.headers
        if self._response.content_length is not None:
            headers = [*headers, (b"content-length", str(self._response.content_length).encode())]
        await exchange.start(self.status, headers)
        chunk = self.first
        while chunk:
            await exchange.write(chunk)
            chunk = await self._response.content.readany()
        await exchange.finish()


class Relay:
    """A client of the engines. Made inside the event loop that it is used in; `close` it in the end."""

    def __init__(self) -> None:
        self._once = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        self._kept = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS))

    async def close(self) -> None:
        """Close all connections."""
        await self._once.close()
        await self._kept.close()

    async def ask(self, exchange: Exchange, replica: Replica, name: str, body: bytes) -> Answer:
        """Send the request under the exchange's route, and wait for the first bytes of the answer; or NoAnswer."""
        headers = to_engine(exchange.headers, exchange.request_id, replica.headers, len(body))
        try:
            session = self._kept if replica.keep_alive else self._once
            response = await _post(session, _url(replica.base_url, exchange.route), headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NoAnswer(Outcome(end="unreachable"), errors.unreachable(name)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(Outcome(end="broken"), errors.died(name)) from error
        try:
            return await _first_bytes(response, name)
        except (aiohttp.ClientError, OSError) as error:
            response.close()
            raise NoAnswer(Outcome(end="broken", status=response.status), errors.died(name)) from error
        except BaseException:
            response.close()
            raise


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent",),
        auto_decompress=False,
        trust_env=False,  # a proxy of the environment is not for engines
    )


async def _post(
    session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], body: bytes
) -> aiohttp.ClientResponse:
    data = body if len(body) <= _WRITTEN_AT_ONCE else io.BytesIO(body)
    return await session.post(url, headers=headers, data=data, allow_redirects=False)


async def _first_bytes(response: aiohttp.ClientResponse, name: str) -> Answer:
    """The first chunk of a stream; of another body all, if it is not too long for that."""
    status = response.status
    if status >= 400:
        error = await _refused(response)
        raise NoAnswer(Outcome(end="busy" if status in _BUSY else "refused", status=status), error)
    if status >= 300:
        raise NoAnswer(Outcome(end="broken", status=status), errors.died(name))
    read = response.content.readany
    if response.content_type == "text/event-stream":
        return Answer(response, await read(), whole=False)
    parts: list[bytes] = []
    size = 0
    while chunk := await read():
        parts.append(chunk)
        size += len(chunk)
        if size > _COLLECTED:
            return Answer(response, b"".join(parts), whole=False)
    return Answer(response, b"".join(parts), whole=True)


async def _refused(response: aiohttp.ClientResponse) -> ApiError:
    parts: list[bytes] = []
    size = 0
    while size < _REFUSAL and (chunk := await response.content.readany()):
        parts.append(chunk)
        size += len(chunk)
    error = refusal(response.status, b"".join(parts))
    if retry := response.headers.get("retry-after"):
        error.headers = (*error.headers, (b"retry-after", retry.encode("latin-1")))
    return error


@lru_cache(maxsize=256)
def _url(base: str, path: str) -> URL:
    return URL(base + path)
