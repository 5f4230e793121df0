"""One JSON line for each exchange, without a word of prompts or answers; knows no file: it goes to `logging`."""

import json
import logging
import time
from typing import Final

from corral.gateway.record import Record
from corral.gateway.wire.asgi import Exchange

_logger: Final = logging.getLogger("corral.gateway.access")


def write(line: str) -> None:
    """Write a line."""
    _logger.info(line)


def line_of(exchange: Exchange, record: Record) -> str:
    """The line of an exchange that is over."""
    client = exchange.scope.get("client")
    fields = {
        "time": round(time.time(), 3),
        "request_id": exchange.request_id,
        "client": client[0] if client else None,
        "key": record.key or None,
        "method": exchange.method,
        "path": exchange.path,
        "model": record.model,
        "replica": record.replica,
        "status": record.status,
        "code": record.code,
        "seconds": round(record.seconds, 6),
        "queue_seconds": round(record.waited, 6),
        "ttft_seconds": None if record.first_token is None else round(record.first_token, 6),
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": record.cached_tokens,
        "output_tokens": record.output_tokens,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "tries": record.tries,
        "cancelled": record.cancelled,
    }
    return json.dumps(fields)
