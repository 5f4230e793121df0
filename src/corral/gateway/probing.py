"""Tries a replica with a real generation of one token, as a client would ask it; knows no desk and no breaker."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any, Final

from corral.gateway import routes
from corral.gateway.desk.values import Replica
from corral.gateway.relay.relay import NoAnswer, Relay
from corral.gateway.wire.asgi import Exchange

PROBE_SECONDS: Final = 30.0  # a first token may stand behind long prompts


async def generates(relay: Relay, replica: Replica) -> bool:
    """Whether a token (or an embedding) comes within PROBE_SECONDS."""
    route, asked = routes.COMPLETIONS, {"prompt": "Hello", "max_tokens": 1, "temperature": 0}
    if replica.embeddings:
        route, asked = routes.EMBEDDINGS, {"input": "ready?"}
    exchange = Exchange({"method": "POST", "path": route, "headers": ()}, _nothing, _nowhere)
    exchange.route = route
    body = json.dumps({"model": replica.served_name, **asked}).encode()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            answer = await relay.ask(exchange, replica, replica.served_name, body)
    except (NoAnswer, TimeoutError):
        return False
    answer.close()
    return True


async def _nothing() -> MutableMapping[str, Any]:
    raise AssertionError


async def _nowhere(_: MutableMapping[str, Any]) -> None:
    raise AssertionError
