"""What the connections of one server share: the application, the limits, a clock; knows no HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from corral.gateway.wire.limits import Limits

if TYPE_CHECKING:
    from corral.gateway.wire.line import Line

Application = Callable[[Any, Any, Any], Awaitable[None]]
_SECOND: Final = 1.0


class Hub:
    """Made inside the event loop."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application = application
        self.limits = limits
        self.lines: set[Line] = set()
        self.silent: dict[Line, None] = {}  # those that never asked for anything, oldest first
        self.resting: dict[Line, None] = {}  # those that wait for their next request, longest first
        self.tasks: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()  # there is no connection
        self.empty.set()
        self.leaving = False  # no connection waits for a further request
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def joined(self, line: "Line") -> None:
        """A connection is there."""
        self.lines.add(line)
        self.empty.clear()
        if self._timer is None:
            self._timer = self.loop.call_later(_SECOND, self._look)

    def makes_room(self) -> bool:
        """Whether there is room for the newest connection; one that asks for nothing goes for it."""
        if len(self.lines) <= self.limits.connections:
            return True
        least = next(iter(self.silent), None) or next(iter(self.resting), None)
        if least is None:
            return False
        self.left(least)
        least.transport.abort()
        return True

    def left(self, line: "Line") -> None:
        """A connection is gone."""
        self.lines.discard(line)
        self.silent.pop(line, None)
        self.resting.pop(line, None)
        if not self.lines:
            self.empty.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _look(self) -> None:
        """Once a second, while there are connections: cheaper than timers for each part of each request."""
        self._timer = self.loop.call_later(_SECOND, self._look)
        self.look(self.loop.time())

    def look(self, now: float) -> None:
        """Tell those for which something is too late."""
        for line in [line for line in self.lines if line.until < now or line.behind < now]:
            line.be_late(behind=line.behind < now)
