"""The cluster file: text -> Cluster with errors that name the line, and back; knows nothing of discovery."""

import json
import re
from io import StringIO
from pathlib import Path
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from corral.cluster.problems import Place, did_you_mean
from corral.cluster.quantities import FILE
from corral.cluster.values import Cluster
from corral.cluster.yaml import LARGEST, Document, read
from corral.errors import BadInput
from corral.values import Value

_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9./:_-]*[A-Za-z0-9]", re.ASCII)
_SHOWN: Final = 8  # problems in one message
_SECTIONS: Final = (
    "schema", "name", "nodes", "links", "storage", "circuits", "price_per_kwh", "models", "residency", "gateway",
)  # fmt: skip
_KINDS: Final = {
    "string_type": "text", "int_type": "a whole number", "int_from_float": "a whole number",
    "bool_type": "true or false", "float_type": "a number",
    "tuple_type": "a list", "dict_type": "a mapping", "mapping_type": "a mapping",
    "model_type": "a mapping of keys to values", "model_attributes_type": "a mapping of keys to values",
}  # fmt: skip


def load(path: Path) -> Cluster:
    """Read a cluster file. BadInput names the file, the line, the key, what was there and what was expected."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """A cluster file's text; BadInput when it cannot be read, is no text or is too large to be one."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        return content.decode()
    except FileNotFoundError:
        raise BadInput(f"There is no cluster file {path}.", f"Write it with `corral discover -o {path}`.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "Give the path of a cluster file.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no text in UTF-8.", "Give the path of a cluster file.") from None


def parse(text: str, name: str = "cluster.yaml") -> Cluster:
    """Read a cluster file's text; `name` is what errors call it."""
    document = read(text, name)
    if not isinstance(document.data, dict):
        raise BadInput(f"{name}:1: a cluster file is a mapping of keys to values.", "See docs/cluster-file.md.")
    try:
        # Through JSON, because only there a list may stand for a tuple while types stay strict.
        text = json.dumps(document.data)  # pyright: ignore[reportUnknownMemberType] - it is a dict of anything
        return Cluster.model_validate_json(text, strict=True, context=FILE)
    except ValidationError as error:
        raise _bad_input(error.errors(include_url=False), document, name) from None


def dump(cluster: Cluster) -> str:
    """Write a cluster as a file for people; `parse` gives exactly the same Cluster back."""
    data = as_plain(cluster)
    file = CommentedMap()
    for key in _SECTIONS:
        if key in data:
            file[key] = styled(data[key])
            if key not in {"schema", "name"}:
                _blank_line_before(file, key)
    return write(file)


def _blank_line_before(file: Any, key: str) -> None:  # noqa: ANN401 - the library's containers are untyped
    file.yaml_set_comment_before_after_key(key, before="\n")


def as_plain(cluster: Cluster) -> dict[str, Any]:
    """A cluster as the plain data of its file: quantities as text with units, defaults left out."""
    data = cluster.model_dump(mode="json", exclude_defaults=True, context=FILE)
    # Said although they are defaults: which schema and cluster this is, and that a node is this machine.
    data["nodes"] = [{"name": node["name"], "address": "local"} | node for node in data["nodes"]]
    return {"schema": cluster.schema_, "name": cluster.name} | data


def styled(data: object) -> Any:  # noqa: ANN401 - the library's containers are untyped
    """Plain data in the containers of the YAML writer: lists of words on one line, all else in blocks."""
    if isinstance(data, dict):
        block = CommentedMap()
        for key, value in data.items():  # pyright: ignore[reportUnknownVariableType] - JSON data
            block[key] = styled(value)  # pyright: ignore[reportUnknownArgumentType] - as above
        return block
    if isinstance(data, list):
        items: list[object] = data  # pyright: ignore[reportUnknownVariableType] - JSON data
        sequence: Any = CommentedSeq([_quoted(item) if isinstance(item, str) else styled(item) for item in items])
        if not any(isinstance(item, dict | list) for item in items):
            sequence.fa.set_flow_style()
        return sequence
    return data


def _quoted(word: str) -> str:
    """A word of a list in quotes, unless it is plain: the writer leaves `[?x]` bare, which reads as a mapping."""
    return word if _PLAIN.fullmatch(word) else DoubleQuotedScalarString(word)


def yaml_writer() -> YAML:
    """The round-trip reader and writer, set to the look that `dump` gives."""
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096  # pyright: ignore[reportAttributeAccessIssue] - never fold a line
    yaml.preserve_quotes = True  # pyright: ignore[reportAttributeAccessIssue] - a person's quotes stay
    return yaml


def write(file: CommentedMap) -> str:
    """The text of a round-trip document."""
    stream = StringIO()
    yaml_writer().dump(file, stream)  # pyright: ignore[reportUnknownMemberType]
    return stream.getvalue()


def _bad_input(errors: list[ErrorDetails], document: Document, name: str) -> BadInput:
    # A list whose items are all wrong is also reported as too short; and what an alias repeats is one mistake.
    around = {error["loc"][:depth] for error in errors for depth in range(len(error["loc"]))}
    found: dict[object, tuple[int, str]] = {}
    for error in errors:
        if error["loc"] not in around or error["type"] == "cluster":
            line, what = _describe(error, document)
            found.setdefault((line, error["type"], error["loc"][-1:]), (line, what))
    described = sorted(found.values(), key=lambda item: item[0])
    lines = [f"{name}:{line}: {what}{'' if what.endswith('?') else '.'}" for line, what in described[:_SHOWN]]
    if len(described) > _SHOWN:
        lines.append(f"and {len(described) - _SHOWN} more.")
    return BadInput("\n".join(lines), "Correct the file; docs/cluster-file.md describes every key.")


def _describe(error: ErrorDetails, document: Document) -> tuple[int, str]:
    context = error.get("ctx", {})
    place: Place = context.get("place", error["loc"])
    kind, where, line = error["type"], _spoken(place), document.line(place)
    if kind == "cluster":
        return line, f"{where}: {context['what']}" if where else context["what"]
    if kind == "extra_forbidden":
        hint = did_you_mean(str(place[-1]), known_keys(place[:-1]))
        return line, f'unknown key "{place[-1]}" in {_spoken(place[:-1]) or "the file"}{hint}'
    if kind == "missing":
        return line, f'{_spoken(place[:-1]) or "the file"} lacks the key "{place[-1]}"'
    if kind in _KINDS:
        return line, f"{where}: {_shown(error['input'])} is there, {_KINDS[kind]} is expected"
    if kind == "value_error":
        return line, f"{where}: {context['error']}"
    return line, f"{where}: {_shown(error['input'])} is there; {error['msg'][0].lower()}{error['msg'][1:]}"


def _shown(written: object) -> str:
    text = "nothing" if written is None else json.dumps(written, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _spoken(place: Place) -> str:
    words = ""
    for step in place:
        words += f"[{step}]" if isinstance(step, int) else f".{step}" if words else step
    return words


def known_keys(place: Place) -> list[str]:
    """The keys that a file may have at a place."""
    kind: Any = Cluster
    for step in place:
        if isinstance(step, str) and isinstance(kind, type) and issubclass(kind, Value):
            field = kind.model_fields.get(step)
            kind = field.annotation if field else None
        else:  # an index into a list, or a key of a mapping
            kind = get_args(kind)[-1 if get_origin(kind) is not tuple else 0] if get_args(kind) else None
        if get_origin(kind) in {Union, UnionType}:
            kind = get_args(kind)[0]
    if not (isinstance(kind, type) and issubclass(kind, Value)):
        return []
    return [field.alias or name for name, field in kind.model_fields.items()]
