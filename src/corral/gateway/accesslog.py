"""One JSON line for each exchange, without a word of prompts or answers; knows no file: it goes to `logging`."""

import json
import logging
import time
from typing import Final

from corral.gateway.wire.asgi import Exchange

_logger: Final = logging.getLogger("corral.gateway.access")


def log(exchange: Exchange, seconds: float) -> None:
    """Write the line of an exchange that ended `seconds` after it arrived."""
    client = exchange.scope.get("client")
    ttft = round(exchange.first_chunk - exchange.arrived, 6) if exchange.first_chunk else None
    line = {
        "time": round(time.time(), 3),
        "request_id": exchange.request_id,
        "client": client[0] if client else None,
        "method": exchange.method,
        "path": exchange.path,
        "model": exchange.model,
        "status": exchange.status,
        "seconds": round(seconds, 6),
        "ttft_seconds": ttft,
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "cancelled": exchange.cancelled,
    }
    _logger.info(json.dumps(line))
