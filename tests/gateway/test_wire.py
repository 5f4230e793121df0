"""Bytes that no well-behaved client sends."""

import asyncio
import json

import pytest

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


async def talk(gateway, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
        CHAT + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHAT + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        CHAT + b"Content-Length: -1\r\n\r\n{}",
        CHAT + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        CHAT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        CHAT + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        CHAT + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
        CHAT + b"X : a\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_broken_http_is_refused_and_never_forwarded(gateway, engine, request_):
    assert (await talk(gateway, request_)).startswith(b"HTTP/1.1 400 ")
    assert not engine.calls


async def test_a_body_in_pieces_of_one_byte(gateway, engine):
    body = b'{"model": "m"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = CHAT + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await talk(gateway, *(bytes([byte]) for byte in head + chunks))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert engine.calls[0].body == body
    assert engine.calls[0].headers["content-length"] == "14"


async def test_requests_in_one_packet_are_answered_in_order(gateway, engine):
    one = CHAT + b"X-Request-Id: %d\r\nContent-Length: 2\r\n%b\r\n{}"
    answer = await talk(gateway, one % (1, b"") + one % (2, b"") + one % (3, b"Connection: close\r\n"))
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert [call.headers["x-request-id"] for call in engine.calls] == ["1", "2", "3"]


async def test_a_client_that_waits_for_100_continue(gateway, engine):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(CHAT + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"{}")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_too_large_a_body_is_refused_before_100_continue(gateway):
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(CHAT + b"Expect: 100-continue\r\nContent-Length: 2000000\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_connection_outlives_a_refused_upload(gateway, engine):
    refused = CHAT + b"Content-Length: 1100000\r\n\r\n" + b"x" * 1_100_000
    good = CHAT + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}"
    answer = await talk(gateway, refused, good)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"HTTP/1.1 200 " in answer


async def test_a_websocket_is_not_understood(gateway):
    upgrade = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert b"HTTP/1.1 101" not in await talk(gateway, upgrade)


@pytest.mark.parametrize(("path", "status"), [(b"/healthz", b"200"), (b"/v1/models", b"200"), (b"/nothing", b"404")])
async def test_head_is_get_without_its_body(gateway, path, status):
    answer = await talk(gateway, b"HEAD %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert body == b""
    assert b"content-length: " in head


async def test_without_any_host_header(gateway):
    answer = await talk(gateway, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"status": "alive"}
