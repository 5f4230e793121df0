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
from corral.gateway.desk.values import Replica
from corral.gateway.relay.refusals import refusal
from corral.gateway.wire.asgi import Exchange
from corral.gateway.wire.headers import to_client, to_engine
from corral.units import KIB, MIB

# llama.cpp lets 128 connections wait to be accepted; beyond, the kernel tries again after 1, 3 and 7 s.
_CONNECT_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 2.0
_COLLECTED: Final = 1 * MIB
_REFUSAL: Final = 256 * KIB  # of an engine's error that is read
_WRITTEN_AT_ONCE: Final = 256 * KIB  # larger bodies go out in pieces, or a cancelled one would still be flushed whole


class Relay:
    """A client of the engines. Made inside the event loop that it is used in; `close` it in the end."""

    def __init__(self) -> None:
        self._once = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        self._kept = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS))

    async def close(self) -> None:
        """Close all connections."""
        await self._once.close()
        await self._kept.close()

    async def forward(self, exchange: Exchange, upstream: Replica, path: str, body: bytes) -> None:
        """Ask the engine and answer the exchange; ApiError where there is no answer to pass on."""
        name = upstream.served_name
        headers = to_engine(exchange.headers, exchange.request_id, upstream.headers, len(body))
        try:
            session = self._kept if upstream.keep_alive else self._once
            response = await _post(session, _url(upstream.base_url, path), headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise errors.unreachable(name) from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.died(name) from error
        try:
            await _answer(exchange, response, name)
        except (aiohttp.ClientError, OSError) as error:
            raise errors.died(name) from error
        finally:
            # Closes a connection that was not read to its end: so the engine learns that nobody waits any more.
            response.close()


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


async def _answer(exchange: Exchange, response: aiohttp.ClientResponse, name: str) -> None:
    if response.status >= 400:
        raise await _refused(response)
    if response.status >= 300:
        raise errors.died(name)
    headers = to_client(response.raw_headers)
    if response.content_type == "text/event-stream":
        await _stream(exchange, response, headers)
    else:
        await _whole(exchange, response, headers)


async def _stream(exchange: Exchange, response: aiohttp.ClientResponse, headers: list[tuple[bytes, bytes]]) -> None:
    read = response.content.readany
    if chunk := await read():
        exchange.first_chunk = time.monotonic()
    exchange.streams = True
    await exchange.start(response.status, headers)
    while chunk:
        await exchange.write(chunk)
        chunk = await read()
    await exchange.finish()


async def _whole(exchange: Exchange, response: aiohttp.ClientResponse, headers: list[tuple[bytes, bytes]]) -> None:
    read = response.content.readany
    parts: list[bytes] = []
    size = 0
    while chunk := await read():
        parts.append(chunk)
        size += len(chunk)
        if size > _COLLECTED:
            break
    else:
        await exchange.reply(response.status, b"".join(parts), headers)
        return
    if response.content_length is not None:
        headers.append((b"content-length", str(response.content_length).encode()))
    await exchange.start(response.status, headers)
    await exchange.write(b"".join(parts))
    while chunk := await read():
        await exchange.write(chunk)
    await exchange.finish()


async def _refused(response: aiohttp.ClientResponse) -> errors.ApiError:
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
