"""Which models stay and which leave when another is asked for: data in, an action out; knows no machine and no clock.

The rules, in the order in which they are asked:

1. What fits beside what runs is loaded.
2. Else those leave that have been idle for longest, as few as make room. Idle: no request at it, none waiting for it.
3. A model stays for `min_stay` seconds once it is loaded, and at least as long as its load took. So two models that
   are too large for both are asked in batches, and most of the time is spent on answers.
4. A model in use leaves only for fairness: once the other has been asked for in vain for as long as this one must stay.
   It then takes no new request, and ends when those that it has are answered.
5. Pinned models never leave. Nor does one without which fewer than `min_loaded` would be there, the new one counted.
6. What would not fit though all others left is refused, with the reason.

All times are seconds of one monotonic clock.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeAlias

MOST: Final = 8  # models of which every choice is weighed; of more, the ones that were used last stay
SOON: Final = 1.0  # seconds: how long to wait for what nobody can tell


@dataclass(frozen=True, slots=True)
class Rules:
    """What the cluster file says of all models."""

    min_loaded: int = 0
    min_stay: float = 10.0


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that is loaded, or on its way in or out."""

    name: str
    ready_at: float | None  # None: it still loads
    load_seconds: float  # that its load took, or will take
    used: float  # when a request last began or ended
    in_flight: int = 0
    waiting: int = 0
    pinned: bool = False
    leaving: bool = False
    ttl: float | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody uses it or waits for it."""
        return not self.in_flight and not self.waiting


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that is asked for and not there."""

    name: str
    since: float  # when it was first asked for in vain


@dataclass(frozen=True, slots=True)
class Load:
    """It fits: load it."""


@dataclass(frozen=True, slots=True)
class Evict:
    """These leave for it; ask again when they have."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """It will fit when others leave, which they do not do yet."""

    seconds: float
    why: str  # for people: "another model has just been loaded"


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be loaded as things are."""

    why: str


Action: TypeAlias = Load | Evict | Wait | Refuse
Room: TypeAlias = Callable[[frozenset[str]], str]
"""Why the model does not fit once these have left; empty when it does."""


def decide(wish: Wish, residents: Sequence[Resident], rules: Rules, now: float, room: Room) -> Action:
    """What to do about a model that is asked for. `residents` are all offered models that are there but itself."""
    if not room(frozenset()):
        return Load()
    leaving = frozenset(one.name for one in residents if one.leaving)
    if leaving and not room(leaving):
        return Wait(SOON, f"{_names(leaving)} leaves")
    staying = [one for one in residents if not one.leaving]
    movable = sorted((one for one in staying if not one.pinned), key=lambda one: one.used)
    why = room(leaving | {one.name for one in movable})
    if why:
        return Refuse(_beside(why, [one.name for one in staying if one.pinned]))
    most = max(0, len(staying) + 1 - min(rules.min_loaded, len(staying)))
    sets = list(_making_room(movable, leaving, most, room))
    if not sets:
        return Refuse(f"Room for it would leave fewer than {rules.min_loaded} models loaded.")
    return _choose(sets, wish, rules, now)


def _choose(sets: Sequence[tuple[Resident, ...]], wish: Wish, rules: Rules, now: float) -> Action:
    """Of the sets that make room: the fewest idle ones that may leave now, else those that may leave first."""
    idle = [some for some in sets if all(one.idle and _leaves_at(one, wish, rules, now) <= now for one in some)]
    if idle:
        return Evict(tuple(one.name for one in idle[0]))
    first = min(sets, key=lambda some: max(_leaves_at(one, wish, rules, now) for one in some))
    last = max(first, key=lambda one: _leaves_at(one, wish, rules, now))
    left = _leaves_at(last, wish, rules, now) - now
    if left <= 0:
        return Evict(tuple(one.name for one in first))
    if last.ready_at is None:
        return Wait(left, f"{last.name} is loaded first")
    if now < last.ready_at + stay(last, rules):
        return Wait(left, f"{last.name} has just been loaded")
    return Wait(left, f"{last.name} is in use")


def stay(resident: Resident, rules: Rules) -> float:
    """Seconds that a model stays at least, once it is loaded."""
    return max(rules.min_stay, resident.load_seconds)


def expired(residents: Sequence[Resident], rules: Rules, now: float) -> tuple[str, ...]:
    """Those that nobody has used for their `ttl`, the longest idle first, as far as `min_loaded` lets them go."""
    staying = [one for one in residents if not one.leaving]
    over = [
        one
        for one in sorted(staying, key=lambda one: one.used)
        if one.ttl is not None
        and not one.pinned
        and one.idle
        and one.ready_at is not None
        and now - max(one.used, one.ready_at) >= one.ttl
        and now >= one.ready_at + stay(one, rules)
    ]
    return tuple(one.name for one in over[: max(0, len(staying) - rules.min_loaded)])


def _leaves_at(one: Resident, wish: Wish, rules: Rules, now: float) -> float:
    """When a model may be told to leave for the one that is asked for."""
    least = stay(one, rules)
    if one.ready_at is None:
        return now + one.load_seconds + least
    over = one.ready_at + least
    return over if one.idle else max(over, wish.since + least)


def _making_room(
    movable: Sequence[Resident], leaving: frozenset[str], most: int, room: Room
) -> Iterator[tuple[Resident, ...]]:
    """Sets that make room when they leave too, none with one too many: fewest first, then the longest unused."""
    found: list[set[str]] = []
    weighed = movable[:MOST]
    if room(leaving | {one.name for one in weighed}):
        yield from [tuple(movable)][: len(movable) <= most]
        return
    for count in range(1, min(len(weighed), most) + 1):
        for some in combinations(weighed, count):
            names = {one.name for one in some}
            if not any(less <= names for less in found) and not room(leaving | names):
                found.append(names)
                yield some


def _beside(why: str, pinned: Sequence[str]) -> str:
    return f"{why} {_names(pinned)} {'is' if len(pinned) == 1 else 'are'} pinned." if pinned else why


def _names(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))
