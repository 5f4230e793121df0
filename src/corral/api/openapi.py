"""The admin API described in OpenAPI 3.1, made from the models that check and answer its requests; pure."""

from collections.abc import Iterable
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from corral import __version__
from corral.api.call import Operation
from corral.api.values import ErrorView
from corral.values import Value

_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"
_ERRORS: Final = {
    400: "The request cannot be read or holds what cannot be",
    401: "No good API key was given",
    403: "The key is no admin key, or the request comes from a foreign web page",
    503: "The database cannot be used just now",
}
_NOT_FOUND: Final = {404: "There is no such thing"}
_CONFLICT: Final = {409: "It does not go with what is there"}
_TOO_LARGE: Final = {413: "The request's body is too large"}


def describe(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document."""
    known = tuple(operations)
    modes: list[Any] = [(operation.answer, "serialization") for operation in known]
    modes += [(operation.body, "validation") for operation in known if operation.body is not None]
    modes.append((ErrorView, "serialization"))
    references, definitions = models_json_schema(modes, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in known:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Corral's admin API",
            "version": __version__,
            "description": "Needs an admin key; without any key, programs on the same machine may use it.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _operation(operation: Operation, references: Any) -> dict[str, Any]:  # noqa: ANN401 - pydantic's mapping
    errors = dict(_ERRORS)
    parameters = _query(operation.query)
    if "{key}" in operation.path:
        parameters.append({"name": "key", "in": "path", "required": True, "schema": {"type": "string"}})
    if parameters:
        errors |= _NOT_FOUND
    described: dict[str, Any] = {
        "operationId": operation.run.__name__,
        "summary": (operation.run.__doc__ or "").strip().splitlines()[0],
        "parameters": parameters,
    }
    if operation.body is not None:
        content = {_JSON: {"schema": references[operation.body, "validation"]}}
        described["requestBody"] = {"required": True, "content": content}
        errors |= _TOO_LARGE
    if operation.method != "GET":
        errors |= _CONFLICT
    answer = {"description": "Done", "content": {_JSON: {"schema": references[operation.answer, "serialization"]}}}
    error = {_JSON: {"schema": references[ErrorView, "serialization"]}}
    described["responses"] = {str(operation.status): answer} | {
        str(status): {"description": text, "content": error} for status, text in sorted(errors.items())
    }
    return described


def _query(model: type[Value]) -> list[dict[str, Any]]:
    """The parameters of a query. One that is left out is null in Python; in a query there is no null."""
    described: list[dict[str, Any]] = []
    for name, schema in model.model_json_schema().get("properties", {}).items():
        shape: dict[str, Any] = dict(schema)
        shape.pop("title", None)
        if "anyOf" in shape:
            (kind,) = [one for one in shape.pop("anyOf") if one.get("type") != "null"]
            shape |= kind
            shape.pop("default", None)
        described.append({"name": name, "in": "query", "required": False, "schema": shape})
    return described
