"""Whether a replica is trusted with requests; knows no request, and is told the time.

Closed: requests go there. Failures add up, an answer makes up for half of one; at `failures` it opens. So it opens on a
row of them and on a share above a third, and not on a stray one.
Open: nothing goes there but a probe, a real generation of one token, after a pause that doubles with each that fails.
Half-open: one real request at a time; after `trials` of them were answered it closes.

Why the only replica has a short longest pause, and no request of a client is spent on trying it: requests wait
meanwhile, so a blip costs them time and no error. With pauses that begin at 0.25 s and double up to 1 s, the end of an
outage that lasted T is noticed after at most T + 0.25 s, and never later than 1 s and a probe's own time. A pause of a
minute would turn a blip into a minute's outage; letting requests try would end each of them with an error.
"""

from collections.abc import Mapping
from enum import Enum
from math import inf
from typing import Final

from corral.gateway.desk.settings import DeskSettings

_PROBE_TAKES: Final = 1.0  # seconds, as a guess


class State(Enum):
    """As above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(Enum):
    """What is learned of a replica."""

    FAILED = "failed"
    WORKED = "worked"
    PROBE_FAILED = "probe failed"
    PROBE_WORKED = "probe worked"


class _Step(Enum):
    """What to do about it."""

    COUNT = "count a failure, and open at the last that is borne"
    FORGIVE = "take back half a failure"
    OPEN = "open, for longer than the last time"
    PROBE_SOON = "a request from before was answered, so it lives: probe at once"
    TRY = "let one request through at a time"
    CONFIRM = "count an answer, and close at the last that is wanted"


# What is not here changes nothing: a failure while it is open is of the incident that opened it, and a probe's report
# that comes when it is not open is late.
_STEPS: Final[Mapping[tuple[State, Event], _Step]] = {
    (State.CLOSED, Event.FAILED): _Step.COUNT,
    (State.CLOSED, Event.WORKED): _Step.FORGIVE,
    (State.OPEN, Event.WORKED): _Step.PROBE_SOON,
    (State.OPEN, Event.PROBE_FAILED): _Step.OPEN,
    (State.OPEN, Event.PROBE_WORKED): _Step.TRY,
    (State.HALF_OPEN, Event.FAILED): _Step.OPEN,
    (State.HALF_OPEN, Event.WORKED): _Step.CONFIRM,
}


class Breaker:
    """One replica's."""

    __slots__ = ("_pause", "_probing", "_score", "_settings", "probe_at", "state", "trial")

    def __init__(self, settings: DeskSettings) -> None:
        self._settings = settings
        self._score = 0.0  # closed: failures; half-open: answers
        self._pause = settings.first_pause
        self._probing = False
        self.state = State.CLOSED
        self.probe_at = inf  # when a probe is wanted
        self.trial = False  # half-open: a real request is under way

    def tell(self, event: Event, now: float, *, alone: bool = False) -> None:
        """Take in what was learned; `alone`: no other replica of the model is trusted."""
        match _STEPS.get((self.state, event)):
            case _Step.COUNT:
                self._score += 1
                if self._score >= self._settings.failures:
                    self._open(now, alone=alone)
            case _Step.FORGIVE:
                self._score = max(0.0, self._score - 0.5)
            case _Step.OPEN:
                self._open(now, alone=alone)
            case _Step.PROBE_SOON:
                self.probe_at = self.probe_at if self._probing else min(self.probe_at, now)
            case _Step.TRY:
                self.state = State.HALF_OPEN
                self._score = 0.0
                self._probing = False
                self.probe_at = inf
            case _Step.CONFIRM:
                self._score += 1
                if self._score >= self._settings.trials:
                    self.state = State.CLOSED
                    self._score = 0.0
                    self._pause = self._settings.first_pause
            case None:
                pass

    @property
    def spotless(self) -> bool:
        """Whether an answer would change nothing."""
        return self.state is State.CLOSED and not self._score

    def wants_probe(self, now: float) -> bool:
        """Whether to probe now; asked for once, and anew when nobody reports on it."""
        if self.state is not State.OPEN or now < self.probe_at:
            return False
        self._probing = True
        self.probe_at = now + self._settings.probe_timeout
        return True

    def wait(self, now: float) -> float:
        """Seconds until it is known whether the replica is back."""
        return _PROBE_TAKES if self._probing else max(0.0, self.probe_at - now)

    def hurry(self, now: float) -> None:
        """The last other replica of the model is trusted no more."""
        if self.state is State.OPEN and not self._probing:
            self.probe_at = min(self.probe_at, now + self._settings.longest_pause_alone)

    def _open(self, now: float, *, alone: bool) -> None:
        longest = self._settings.longest_pause_alone if alone else self._settings.longest_pause
        self.state = State.OPEN
        self.trial = self._probing = False
        self.probe_at = now + min(self._pause, longest)
        self._pause = min(2 * self._pause, self._settings.longest_pause)
