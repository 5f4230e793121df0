"""Moves a YAML document's comments to what they stand above, so that editing values moves and loses none; knows no key.

The library hangs a comment on the last value before it, however deep: the lines above a section belong to the last NIC
of the last node, say, and would move or vanish with it.
"""

from itertools import pairwise
from typing import Any, TypeAlias

from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

_Block: TypeAlias = Any  # CommentedMap or CommentedSeq: the library leaves them untyped


def settle(block: _Block) -> None:
    """Hang every comment that stands on lines of its own on the key or item below it; the last ones on the end."""
    if not _is_block(block):
        return
    keys: list[Any] = _keys(block)
    for key in keys:
        settle(block[key])
    for before, after in pairwise(keys):
        lines = _take_lines(block, before)
        if lines:
            _hang_above(block, after, lines)


def lines_at_end(block: _Block) -> list[str]:
    """Take the comment lines after the document's last value; the writer of the document puts them back."""
    return _take_lines(block, _keys(block)[-1]) if _is_block(block) and block else []


def _keys(block: _Block) -> list[Any]:
    return list(block) if isinstance(block, CommentedMap) else list(range(len(block)))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _is_block(value: _Block) -> bool:
    return isinstance(value, CommentedMap | CommentedSeq) and value.fa.flow_style() is not True  # pyright: ignore[reportUnknownMemberType]


def _take_lines(block: _Block, key: Any) -> list[str]:  # noqa: ANN401 - as _Block
    """Take the lines of comment that hang on the last value below a key, leaving the comment on its own line."""
    value = block[key]
    if _is_block(value) and len(value):
        return _take_lines(value, _keys(value)[-1])
    tokens = block.ca.items.get(key)
    at = 2 if isinstance(block, CommentedMap) else 0
    token = tokens[at] if tokens and len(tokens) > at else None
    if token is None:
        return []
    first, newline, rest = token.value.partition("\n")
    token.value = first + newline
    if not first:
        tokens[at] = None
    return rest.splitlines()


def _hang_above(block: _Block, key: Any, lines: list[str]) -> None:  # noqa: ANN401 - as _Block
    items: dict[Any, Any] = block.ca.items
    tokens = items.setdefault(key, [None, None, None, None] if isinstance(block, CommentedMap) else [None, None])
    above = [CommentToken(f"{line.strip()}\n", CommentMark(len(line) - len(line.lstrip())), None) for line in lines]
    tokens[1] = above + (tokens[1] or [])
