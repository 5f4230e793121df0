"""YAML text -> plain data and the line of every key, refusing what no honest file holds; knows no cluster.

Read through the composed node tree, so that every value keeps its line and an alias bomb is stopped while it is
counted, before it is expanded. Anchors, aliases and merge keys (`<<`) work.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from corral.cluster.problems import Place
from corral.errors import BadInput

LARGEST: Final = 256 * 1024  # bytes; a cluster of 16 nodes is written in about 30 kB
_MOST_VALUES: Final = 50_000  # once aliases are expanded
_DEEPEST: Final = 24
_Node: TypeAlias = Any  # the library leaves its node types open
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) and the line (from 1) where each key or item stands."""

    data: object
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest thing around it that has one."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read(text: str, name: str) -> Document:
    """Read one YAML document. BadInput names `name`, the line, and what is wrong there."""
    if len(text) > LARGEST:
        raise BadInput(
            f"{name} is larger than {LARGEST // 1024} KiB; no cluster file is.", "Give the path of a cluster file."
        )
    try:
        root: _Node = YAML(typ="safe", pure=True).compose(text)  # pyright: ignore[reportUnknownMemberType]
    except MarkedYAMLError as error:
        raise _not_yaml(error, name) from None
    except (YAMLError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        raise BadInput(f"{name} is not YAML: {sentence}.", "Give the path of a cluster file.") from None
    except RecursionError:
        raise BadInput(f"{name} is nested too deeply.", "Give the path of a cluster file.") from None
    if root is None:
        raise BadInput(f"{name} is empty.", "Write it with `corral discover`, or see docs/cluster-file.md.")
    reader = _Reader(name)
    return Document(reader.convert(root, ()), reader.lines)


def _not_yaml(error: Any, name: str) -> BadInput:  # noqa: ANN401 - as with nodes
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem: str = error.problem or error.context or "it cannot be read"
    if "\\t" in problem:
        return BadInput(f"{name}:{line}: a tab stands where YAML expects spaces.", "Indent with spaces.")
    return BadInput(f"{name}:{line}: this is not YAML: {problem}.", "Correct that line, or the one before it.")


@dataclass(slots=True)
class _Reader:
    name: str
    lines: dict[Place, int] = field(default_factory=dict[Place, int])
    values: int = 0

    def convert(self, node: _Node, place: Place) -> object:
        self.values += 1
        if self.values > _MOST_VALUES or len(place) > _DEEPEST:
            raise self._error(node, "aliases or nesting blow this up beyond reason", "Write it out plainly.")
        self.lines.setdefault(place, _line(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode):
            return [self.convert(item, (*place, index)) for index, item in enumerate(_children(node))]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, object]:
        inherited: dict[str, object] = {}
        for key, value in _children(node):
            if key.tag == f"{_TAG}merge":
                inherited = self._inherited(value, place) | inherited
        data: dict[str, object] = {}
        for key, value in _children(node):
            if key.tag == f"{_TAG}merge":
                continue
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key is a list or a mapping", "Use a plain word as the key.")
            word = str(key.value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType] - as _Node
            if word in data:
                first = self.lines[*place, word]
                raise self._error(
                    key, f'the key "{word}" is there twice (first in line {first})', "Remove one of them."
                )
            self.lines[*place, word] = _line(key)
            data[word] = self.convert(value, (*place, word))
        return inherited | data

    def _inherited(self, node: _Node, place: Place) -> dict[str, object]:
        """What `<<` brings: a mapping, or several of which the earlier counts for more."""
        data: dict[str, object] = {}
        for source in _children(node) if isinstance(node, SequenceNode) else [node]:
            merged = self.convert(source, place)
            if not isinstance(merged, dict):
                raise self._error(source, "what is merged with << is no mapping", "Merge a mapping.")
            data = cast("dict[str, object]", merged) | data
        return data

    def _scalar(self, node: _Node) -> object:
        tag, written = str(node.tag), str(node.value)
        read = _SCALARS.get(tag.removeprefix(_TAG))
        if read is None:
            raise self._error(node, f"{written[:40]!r} has the type {tag!r}", "Put it in quotes.")
        try:
            return read(written)
        except ValueError:
            raise self._error(node, f"{written[:40]!r} is no number that can be read", "Put it in quotes.") from None

    def _error(self, node: _Node, what: str, remedy: str) -> BadInput:
        return BadInput(f"{self.name}:{_line(node)}: {what}.", remedy)


def _line(node: _Node) -> int:
    return node.start_mark.line + 1


def _children(node: _Node) -> list[Any]:
    return node.value


def _integer(written: str) -> int:
    plain = written.replace("_", "")
    try:
        return int(plain, 10)
    except ValueError:
        return int(plain, 0)


def _float(written: str) -> float:
    number = float(written.replace("_", "").replace(".inf", "inf").replace(".Inf", "inf"))
    if not math.isfinite(number):
        raise ValueError(written)
    return number


_SCALARS: Final[Mapping[str, Callable[[str], object]]] = {
    "str": str,
    "int": _integer,
    "float": _float,
    "bool": lambda written: written.lower() == "true",
    "null": lambda _written: None,
    "timestamp": str,  # nothing here is a date; 2026-01-01 may be a name
}
