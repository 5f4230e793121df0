"""What one key may do, and what it did; knows no other key and no model's state.

Tokens are reserved by estimate when a request arrives and corrected when it ends. What must not work: going over a
limit by cancelling. A request that was let in counts, whatever comes of it; only tokens that no engine saw are given
back. A request that was not let in counts for nothing, so that Retry-After stays true.
"""

from math import inf
from typing import Final

from corral.gateway import errors
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import KeyLimits
from corral.gateway.desk.window import Window

DAY: Final = 86400.0  # seconds
_NO_LIMIT: Final = 1 << 62


class Account:
    """One key."""

    __slots__ = ("_free", "allowed", "day", "day_tokens", "epoch", "limits", "live", "requests", "tokens")

    def __init__(self, limits: KeyLimits) -> None:
        self.live: dict[int, Ticket] = {}  # waiting or running, oldest first
        self.requests: Window | None = None
        self.tokens: Window | None = None
        self.day = 0
        self.day_tokens = 0
        self.allowed: frozenset[str] | None = None  # names of models, as of `epoch`; None: all
        self.epoch = -1
        self.adopt(limits)

    def adopt(self, limits: KeyLimits) -> None:
        """Take other limits; what was used stays used."""
        self.limits = limits
        self.requests = _window(self.requests, limits.requests_per_minute)
        self.tokens = _window(self.tokens, limits.tokens_per_minute)
        self.epoch = -1
        self._free = limits.requests_per_minute is limits.tokens_per_minute is limits.tokens_per_day is None

    def admit(self, ticket: Ticket, output: int, now: float, wall: float) -> None:
        """Charge the key for a request, or raise a 429 that says when there will be room.

        `output` is the tokens that the answer is expected to have, `wall` the time in Unix seconds.
        """
        limits = self.limits
        if limits.concurrent is not None and len(self.live) >= limits.concurrent:
            raise self._too_many(now)
        self._turn_day(int(wall // DAY))
        ticket.day = self.day
        if not self._free:
            self._charge(ticket, output, now, wall)
        self.live[ticket.number] = ticket

    def _charge(self, ticket: Ticket, output: int, now: float, wall: float) -> None:
        prompt = ticket.ask.prompt_tokens
        day = self.limits.tokens_per_day
        # How long an answer gets is a guess: it must not shut out for good a request that may well fit.
        most = min(_NO_LIMIT if day is None else day, _NO_LIMIT if self.tokens is None else self.tokens.limit)
        amount = max(prompt, min(prompt + output, most))
        waits: list[tuple[float, str]] = []
        if day is not None and self.day_tokens + amount > day:
            limit = f"This key may use {day} tokens a UTC day, and used {self.day_tokens}."
            waits.append((inf if amount > day else DAY - wall % DAY, limit))
        if self.requests is not None and (wait := self.requests.wait(1, now)):
            waits.append((wait, f"This key may send {self.requests.limit} requests a minute."))
        if self.tokens is not None and (wait := self.tokens.wait(amount, now)):
            waits.append((wait, _too_large(self.tokens, amount)))
        if waits:
            wait, limit = max(waits)
            raise errors.limit_reached(limit, wait)
        if self.requests is not None:
            ticket.request_span = self.requests.add(1, now)
        if self.tokens is not None:
            ticket.token_span = self.tokens.add(amount, now)
        self.day_tokens += amount
        ticket.reserved = amount

    def undo(self, ticket: Ticket, now: float) -> None:
        """Forget a request that was not let in after all."""
        self.end(ticket, 0, now)
        if ticket.request_span is not None and self.requests is not None:
            self.requests.give_back(ticket.request_span, 1, now)

    def end(self, ticket: Ticket, tokens: int | None, now: float) -> None:
        """A request is over, and it used so many tokens; None: not known, so the estimate holds."""
        if self.live.pop(ticket.number, None) is None or tokens is None:
            return
        more = tokens - ticket.reserved
        if self.tokens is not None and ticket.token_span is not None:
            if more < 0:
                self.tokens.give_back(ticket.token_span, -more, now)
            elif more:
                self.tokens.add(more, now)  # used until now: it counts for a minute from here
        if ticket.day == self.day:
            self.day_tokens += more

    def charge_day(self, tokens: int, day: int) -> None:
        """Count tokens that were used on this day before this process began."""
        self._turn_day(day)
        if day == self.day:
            self.day_tokens += tokens

    def _turn_day(self, day: int) -> None:
        """Begin a new day; a wall clock that is set back does not bring the old one back."""
        if day > self.day:
            self.day = day
            self.day_tokens = 0

    def _too_many(self, now: float) -> errors.ApiError:
        limit = f"This key may have {self.limits.concurrent} requests at once."
        oldest = next(iter(self.live.values()), None)
        if oldest is None:
            return errors.limit_reached(limit, inf)
        return errors.limit_reached(limit, (oldest.granted or now) + oldest.cost - now)


def _too_large(window: Window, amount: int) -> str:
    text = f"This key may use {window.limit} tokens a minute"
    if amount > window.limit:
        return f"{text}, and this prompt alone has about {amount}."
    return f"{text}, used {window.used}, and this request needs about {amount}."


def _window(old: Window | None, limit: int | None) -> Window | None:
    """A window of this limit that remembers what was used; one that exists stays, for tickets point into it."""
    if old is None:
        return None if limit is None else Window(limit)
    old.limit = _NO_LIMIT if limit is None else limit
    return old
