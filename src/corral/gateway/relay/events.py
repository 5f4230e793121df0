"""Looks at a stream of server-sent events as it passes by, in chunks cut at any byte; pure, and changes nothing.

With one exception: where the gateway itself asked the engine for the usage, the one event that it added is taken out
again. Then an event whose end has not come yet is held back; otherwise every byte goes on at once. (llama.cpp puts its
`timings` into the last event of all, so they go with it.)

Nothing is parsed but an event with a `usage`. The tests are on bytes: a quote within a JSON string has a backslash
before it, and a line's end cannot stand in one, so no text of a model can be taken for what is looked for here. Lines
end with LF or CR LF; engines use nothing else.
"""

import re
from typing import Final

from corral.gateway.relay import usage
from corral.gateway.relay.usage import Usage
from corral.units import MIB

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_DONE: Final = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)
_DATA: Final = re.compile(rb"^data:(.*)$", re.MULTILINE)
# Something that a model said: text or reasoning that is not empty, or a call of a tool, in the words of OpenAI's chat,
# completions and responses, and of Anthropic's messages.
_TOKEN: Final = re.compile(
    rb'"(?:content|reasoning|reasoning_content|text|delta|thinking|partial_json)" ?: ?"[^"]|"tool_calls" ?: ?\[ ?\{'
)
_USAGE: Final = re.compile(rb'"usage" ?: ?\{')
_LONGEST: Final = 1 * MIB  # bytes of an event that are kept to look at


class Events:
    """One stream. `hide_usage`: take out the event that holds nothing but the usage."""

    __slots__ = ("_hides", "_rest", "_shown", "count", "spoken", "usage")

    def __init__(self, *, hide_usage: bool = False) -> None:
        self.count = 0  # events with data so far, without the closing [DONE]
        self.spoken = False  # whether the model has said anything yet
        self.usage: Usage = usage.NOTHING
        self._hides = hide_usage
        self._rest = b""  # the beginning of an event whose end has not come
        self._shown = 0  # bytes of it that went on already

    def feed(self, chunk: bytes) -> bytes:
        """Take what came; give what goes on now."""
        data = self._rest + chunk if self._rest else chunk
        end = len(data) if data.endswith(b"\n\n") else _end_of_last(data)
        passed = b""
        if end:
            passed = self._look(data[:end])[self._shown :]
            self._shown = 0
        self._rest = data[end:]
        if len(self._rest) > _LONGEST:
            passed += self._overlook()
        return passed if self._hides else chunk

    def end(self) -> bytes:
        """What was held back of an event that will not be complete any more."""
        held = self._rest[self._shown :] if self._hides else b""
        self._rest, self._shown = b"", 0
        return held

    def _look(self, whole: bytes) -> bytes:
        """Look at whole events; give what is left of them."""
        self.count += whole.count(b"\ndata:") + whole.startswith(b"data:")
        if b"[DONE]" in whole:
            self.count -= len(_DONE.findall(whole))
        if not self.spoken and _TOKEN.search(whole):
            self.spoken = True
        if b'"usage"' not in whole or not _USAGE.search(whole):
            return whole
        kept: list[bytes] = []
        start = 0
        for blank in _BLANK_LINE.finditer(whole):
            event = whole[start : blank.end()]
            start = blank.end()
            kept.append(event[: len(event) - len(event.lstrip(b"\r\n"))] if self._is_added(event) else event)
        kept.append(whole[start:])
        return b"".join(kept)

    def _is_added(self, event: bytes) -> bool:
        """Read an event's usage; whether the event is there for that alone, and only the gateway wanted it."""
        if not _USAGE.search(event):
            return False
        found, alone = usage.read(b"".join(_DATA.findall(event)))
        self.usage = self.usage.updated(found)
        return alone and self._hides

    def _overlook(self) -> bytes:
        """Give on what is too long to keep; the event's end will come without its beginning."""
        passed = self._rest[self._shown :]
        self.count += self._rest.count(b"\ndata:") + self._rest.startswith(b"data:")
        self._rest = self._rest[-2:]  # may be half of a blank line
        self._shown = len(self._rest)
        return passed


def _end_of_last(data: bytes) -> int:
    """Where the last whole event ends; 0 when there is none."""
    lines, returns = data.rfind(b"\n\n"), data.rfind(b"\n\r\n")
    return max(lines + 2 if lines >= 0 else 0, returns + 3 if returns >= 0 else 0)
