"""Bytes to the gateway and back, with another HTTP parser (h11) as the judge of both directions."""

import asyncio
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field

import h11
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from gateway.conftest import eventually

QUIET_SECONDS = 0.02  # without a byte: what is to come from a fake engine on loopback has come
_LIMIT = 8_000_000
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
# Not made smaller: each look at a failing example waits for what does not come.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 2), st.sampled_from(b"\r\n \t:0;\x00\xffaA/")), max_size=2
)


@dataclass
class Talk:
    """What came back on one connection."""

    received: bytes = b""
    end: str = "open"  # or "closed", "reset"
    methods: list[bytes] = field(default_factory=list)  # of the requests that were sent, for the judge

    @property
    def answers(self):
        return parse_answers(self.received, self.methods)


async def converse(port, pieces, *, quiet=QUIET_SECONDS, methods=()):
    """Send the pieces one by one; read until the end, or until nothing more comes. Leaves the connection abruptly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
    talk = Talk(methods=list(methods))
    reading = asyncio.create_task(_read(reader, talk, quiet))
    try:
        for piece in pieces:
            if reading.done():
                break
            if writer.transport.is_closing():  # uvloop raises RuntimeError for a write after that
                break
            writer.write(piece)
            with suppress(ConnectionError):
                await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0)
        await reading
    finally:
        reading.cancel()
        writer.transport.abort()
    return talk


async def _read(reader, talk, quiet):
    try:
        while data := await asyncio.wait_for(reader.read(1 << 20), quiet if talk.received else max(quiet, 0.1)):
            talk.received += data
        talk.end = "closed"
    except TimeoutError:
        pass
    except ConnectionError:
        talk.end = "reset"


def sent_requests(data):
    """(method, target, body) of each whole request in the bytes, as the reference reads them, until it finds fault."""
    found = []
    with suppress(h11.RemoteProtocolError):
        while data := data.lstrip(b"\r\n"):  # RFC 9112, 2.2: empty lines before a request mean nothing
            server = h11.Connection(h11.SERVER, max_incomplete_event_size=_LIMIT)
            server.receive_data(data)
            body = b""
            while not isinstance(event := server.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                else:
                    return found
            found.append((bytes(request.method), bytes(request.target), body))
            if server.their_state is h11.MUST_CLOSE:
                return found
            data = server.trailing_data[0]
    return found


def parse_answers(data, methods=()):
    """(status, headers, body) of each answer, None for a body that is cut; h11.RemoteProtocolError where it is none."""
    methods = list(methods)
    found = []
    while data:
        client = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LIMIT)
        method = methods.pop(0) if methods else b"GET"
        client.send(h11.Request(method=method, target=b"/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        answer, body = None, b""
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                found.append((answer.status_code if answer else 0, _headers(answer), None))
                return found
            if isinstance(event, h11.Response):
                answer = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        found.append((answer.status_code, _headers(answer), body))
        data = client.trailing_data[0]
    return found


def _headers(answer):
    return {bytes(name): bytes(value) for name, value in answer.headers} if answer else {}


def is_subsequence(part, whole):
    rest = iter(whole)
    return all(item in rest for item in part)


class Leftovers:
    """Tasks and sockets of this process, to be the same afterwards."""

    def __init__(self):
        self.tasks = len(asyncio.all_tasks())
        self.sockets = _sockets()

    async def none(self, engine=None):
        """Wait until there are none; AssertionError names them."""
        try:
            await eventually(lambda: not any(self._left(engine).values()), 2)
        except AssertionError:
            raise AssertionError(self._left(engine)) from None

    def _left(self, engine):
        tasks, sockets = asyncio.all_tasks(), _sockets()
        return {
            "tasks": list(map(str, tasks)) if len(tasks) > self.tasks else [],
            "sockets": max(0, sockets - self.sockets),
            "connections to the engine": engine.connections if engine else 0,
        }


def _sockets():
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    return count


async def healthy(port):
    """Ask on a connection of its own whether the server still answers."""
    with socket.socket() as probe:
        probe.settimeout(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(probe, ("127.0.0.1", port))
        await loop.sock_sendall(probe, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await asyncio.wait_for(loop.sock_recv(probe, 4096), 5)).startswith(b"HTTP/1.1 200 ")


def examples(count):
    """Settings of a property that talks to a server."""
    return settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=count, phases=PHASES)


def edited(data, edits):
    """The bytes with a few of them replaced."""
    data = bytearray(data)
    for place, removed, byte in edits:
        at = place % (len(data) + 1)
        data[at : at + removed] = bytes([byte])
    return bytes(data)
