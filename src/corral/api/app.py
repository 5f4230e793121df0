"""Answers the exchanges below /api: finds the operation, reads what is asked, and says what came of it as JSON."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from pydantic import ValidationError

from corral.api.call import Call, Operation
from corral.api.openapi import describe
from corral.api.operations import DESCRIPTION, OPERATIONS
from corral.errors import BadInput, CorralError, DoesNotFit
from corral.gateway import errors, routes
from corral.gateway.errors import SERVER, ApiError
from corral.gateway.wire import browsers
from corral.gateway.wire.asgi import Exchange, Header
from corral.store.keys import UnknownKey
from corral.values import Value

BODY_LIMIT: Final = 64 * 1024
_HEADERS: Final[tuple[Header, ...]] = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


class AdminApi:
    """`answer` answers an exchange whose client has been let in, or raises ApiError."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._description = json.dumps(describe(OPERATIONS)).encode()

    async def answer(self, exchange: Exchange) -> None:
        """Answer; the operation's work is done in a thread, since it waits for the disk."""
        exchange.route = routes.API
        there = {operation.method: (operation, path) for operation, path in _matching(exchange.path)}
        methods = ["GET"] if exchange.path == DESCRIPTION else list(there)
        if not methods:
            raise errors.unknown_path(exchange.path, ())
        if exchange.method == "OPTIONS":
            return await _options(exchange, methods)
        if exchange.method not in methods:
            raise _wrong_method(exchange, methods)
        if exchange.path == DESCRIPTION:
            return await exchange.reply(200, self._description, _HEADERS)
        operation, path = there[exchange.method]
        query = _checked(operation.query, _query(exchange.scope["query_string"], operation.query))
        body = None if operation.body is None else _checked(operation.body, await _body(exchange))
        call = Call(path, query, body, self._clock, self._folder)
        try:
            answer = await asyncio.to_thread(operation.run, call)
        except CorralError as error:
            raise _told(error) from error
        return await exchange.reply(operation.status, answer.model_dump_json().encode(), _HEADERS)


def _matching(path: str) -> list[tuple[Operation, dict[str, str]]]:
    """The operations of a path, with its variable parts."""
    parts = path.split("/")
    found: list[tuple[Operation, dict[str, str]]] = []
    for operation in OPERATIONS:
        pattern = operation.path.split("/")
        if len(pattern) == len(parts) and all(
            wanted == part or (wanted.startswith("{") and part) for wanted, part in zip(pattern, parts, strict=True)
        ):
            variable = {wanted[1:-1]: part for wanted, part in zip(pattern, parts, strict=True) if wanted != part}
            found.append((operation, variable))
    return found


async def _options(exchange: Exchange, methods: list[str]) -> None:
    headers: list[Header] = [(b"allow", ", ".join([*methods, "OPTIONS"]).encode())]
    if (origin := exchange.headers.get(b"origin")) is not None:
        asked = exchange.headers.get(b"access-control-request-headers", b"")
        headers += browsers.preflight(origin, asked, ", ".join(methods).encode())
    await exchange.start(204, headers)
    await exchange.finish()


def _wrong_method(exchange: Exchange, methods: list[str]) -> ApiError:
    return errors.wrong_method(exchange.method, exchange.path, [*methods, "OPTIONS"])


def _query(raw: bytes, model: type[Value]) -> bytes:
    """A query string as the JSON of its model: whole numbers where the model has them."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, strict_parsing=bool(raw), errors="strict")
    except ValueError:
        raise _invalid("The query cannot be read.", None) from None
    values: dict[str, Any] = dict(pairs)
    if len(values) < len(pairs):
        raise _invalid("A parameter is there twice.", None)
    for name, shape in model.model_json_schema().get("properties", {}).items():
        kinds = {shape.get("type"), *(one.get("type") for one in shape.get("anyOf", ()))}
        if "integer" in kinds and _WHOLE.fullmatch(values.get(name, "")):
            values[name] = int(values[name])
    return json.dumps(values).encode()


async def _body(exchange: Exchange) -> bytes:
    """The body as JSON in which 5.0 is 5: JSON does not tell whole numbers apart, and neither do its schemas."""
    raw = await exchange.read(BODY_LIMIT, errors.too_large)
    try:
        return json.dumps(json.loads(raw.decode(), parse_float=_number, parse_constant=_no_number)).encode()
    except (ValueError, RecursionError):
        raise _invalid("The request's body is not JSON.", None) from None


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _checked(model: type[Value], content: bytes) -> Value:
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        # What was sent is not repeated: it may be a secret in the wrong place.
        raise _invalid(f"{place or 'The request'}: {first['msg']}.", place or None) from None
    except BadInput as error:
        raise _told(error) from None


def _invalid(message: str, param: str | None) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def _told(error: CorralError) -> ApiError:
    """What a person would read on a terminal, as an answer."""
    match error:
        case UnknownKey():
            return ApiError(404, str(error), code="not_found")
        case DoesNotFit():
            return ApiError(409, str(error), code="conflict")
        case BadInput():
            return ApiError(400, str(error), code="invalid_value")
        case _:
            return ApiError(503, str(error), type=SERVER, code="unavailable")
