"""Answers in the head what a worker's client asked and no engine answers: calls the head's own application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from corral.gateway.wire.asgi import Receive, Scope, Send
from corral.gateway.workers.messages import Answered, Relayed

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


async def answered_by(application: Application, message: Relayed) -> Answered:
    """The application's whole answer."""
    status = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    parts: list[bytes] = []
    unread = [message.body]

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": unread.pop() if unread else b"", "more_body": False}

    async def send(event: MutableMapping[str, Any]) -> None:
        nonlocal status, headers
        if event["type"] == "http.response.start":
            status, headers = event["status"], tuple(tuple(pair) for pair in event["headers"])
        else:
            parts.append(event.get("body", b""))

    scope = {
        "type": "http",
        "method": message.method,
        "path": message.path,
        "raw_path": message.path.encode(),
        "query_string": message.query,
        "headers": message.headers,
        "client": (message.client, 0) if message.client else None,
    }
    await application(scope, receive, send)
    return Answered(message.id, status, headers, b"".join(parts))
