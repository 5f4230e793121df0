"""Which models are known, in which state, and which replicas serve them; knows no HTTP and no engine.

Changed and read inside one event loop, so nothing locks. The launcher writes, a replica at a time:
`table.enter("qwen3", "qwen3~2", Loading("load", 0.4))`, then `Ready(Replica(...))` or `Failed(cause)`. What a model's
name stands for is derived from its replicas: it is ready when one is. Models that are known without being loaded are
`offer`ed; whoever needs one says `demand`. Requests read, and say when they begin and end, so that idleness is known.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from corral.gateway.desk.values import Replica


@dataclass(frozen=True, slots=True)
class Unloaded:
    """Known, and loaded when somebody asks for it."""


@dataclass(frozen=True, slots=True)
class Loading:
    """On its way."""

    stage: str  # for people: "weights", "first token"
    fraction: float | None = None  # of the whole launch, 0 to 1; None: not known
    seconds: float | None = None  # that it still takes, if it takes as long as it did before; None: not known


@dataclass(frozen=True, slots=True)
class Ready:
    """A real generation (or embedding) came back through this replica."""

    replica: Replica
    since: int = 0  # Unix time, seconds; the table fills it in


@dataclass(frozen=True, slots=True)
class Failed:
    """It does not run, and nothing is on its way."""

    cause: str  # one sentence, for people
    seconds: float | None = None  # until asking for it is of use again; None: somebody must launch it


State: TypeAlias = Unloaded | Loading | Ready | Failed
_BEST_FIRST: Final = (Ready, Loading, Failed, Unloaded)


@dataclass(frozen=True, slots=True)
class Offer:
    """A model that is known whether it is loaded or not: other names for it, and who answers when it cannot."""

    name: str
    aliases: tuple[str, ...] = ()
    fallback: tuple[str, ...] = ()


@dataclass(slots=True)
class Use:
    """Who wants a model. Times are seconds of the table's `monotonic` clock."""

    in_flight: int = 0  # requests at its replicas
    waiting: int = 0  # requests that are held until it can take them
    used: float | None = None  # when a request last began or ended; None: never
    asked_first: float | None = None  # since when it is asked for in vain; None: nobody asks, or it is ready
    asked_last: float | None = None


class Table:
    """Models by public name, in the order in which they became known."""

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._replicas: dict[str, dict[str, State]] = {}  # by name and replica's id; an offer's may be none
        self._offers: dict[str, Offer] = {}
        self._aliases: dict[str, str] = {}
        self._uses: dict[str, Use] = {}
        self._subscribers: list[Callable[[str], None]] = []

    # What the launcher writes.

    def enter(self, name: str, replica: str, state: State) -> None:
        """Enter a replica of a model or replace its state; ValueError when the engine knows the model otherwise."""
        if isinstance(state, Ready):
            if state.replica.served_name != name:
                raise ValueError(f"the engine serves {state.replica.served_name!r}, the table says {name!r}")
            if not state.since:
                state = Ready(state.replica, int(self._clock()))
            use = self._use(name)
            use.asked_first = use.asked_last = None
        self._replicas.setdefault(name, {})[replica] = state
        self._tell(name)

    def leave(self, name: str, replica: str) -> None:
        """Take a replica out; one that is not there is no error."""
        there = self._replicas.get(name, {})
        if there.pop(replica, None) is not None:
            self._clear(name)
            self._tell(name)

    def set(self, name: str, state: State) -> None:
        """Enter the replica that has the model's own name, as the only one mostly is."""
        self.enter(name, name, state)

    def remove(self, name: str) -> None:
        """Take the replica out that has the model's own name."""
        self.leave(name, name)

    def offer(self, offers: Iterable[Offer]) -> None:
        """Say which models are known though they may not be loaded, in place of all that were said before."""
        before = set(self._offers)
        self._offers = {offer.name: offer for offer in offers}
        self._aliases = {alias: offer.name for offer in self._offers.values() for alias in offer.aliases}
        for name in self._offers:
            self._replicas.setdefault(name, {})
        for name in before | set(self._offers):
            self._clear(name)
            self._tell(name)

    def subscribe(self, told: Callable[[str], None]) -> Callable[[], None]:
        """Call `told` with a model's name whenever its state, replicas or demand changed; gives what ends that."""
        self._subscribers.append(told)
        return lambda: self._subscribers.remove(told)

    # What requests read.

    def resolve(self, asked: str) -> str | None:
        """The public name of the model that is meant by a name or an alias; None when there is none."""
        return asked if asked in self._replicas else self._aliases.get(asked)

    def get(self, name: str) -> State | None:
        """The state of a model: the best of its replicas'; None when there is none of this name."""
        there = self._replicas.get(name)
        return None if there is None else _best(there.values())

    def states(self) -> Mapping[str, State]:
        """A copy of all states by name."""
        return {name: _best(there.values()) for name, there in self._replicas.items()}

    def ready(self) -> Mapping[str, Ready]:
        """The models that answer requests now, by name."""
        return {name: state for name, state in self.states().items() if isinstance(state, Ready)}

    def listed(self) -> Mapping[str, State]:
        """The models that can be asked for, by name: those that answer now, and those that are loaded then."""
        return {n: state for n, state in self.states().items() if n in self._offers or isinstance(state, Ready)}

    def replicas(self, name: str) -> Mapping[str, State]:
        """A copy of the states of a model's replicas, by their ids."""
        return dict(self._replicas.get(name, {}))

    def serving(self, name: str) -> tuple[Replica, ...]:
        """The replicas of a model that answer requests now."""
        return tuple(s.replica for s in self._replicas.get(name, {}).values() if isinstance(s, Ready))

    def aliases(self) -> Mapping[str, str]:
        """A copy of the other names, each with the model that it means."""
        return dict(self._aliases)

    def fallback(self, name: str) -> tuple[str, ...]:
        """The models that may answer in a model's place, in order."""
        offer = self._offers.get(name)
        return () if offer is None else offer.fallback

    def only(self) -> str | None:
        """The name of the one model when there is exactly one: a request that names no model means it."""
        states = self.states()
        meant = [name for name, state in states.items() if not isinstance(state, Failed)] or list(states)
        return meant[0] if len(meant) == 1 else None

    # What requests say.

    def demand(self, name: str) -> None:
        """Say that somebody asks for a model that is not loaded; said again by whoever asks again."""
        now, use = self._monotonic(), self._use(name)
        use.asked_first = now if use.asked_first is None else use.asked_first
        use.asked_last = now
        self._tell(name)

    def drop_demand(self, name: str) -> None:
        """Forget who asked for a model in vain: they have been told that it will not come, or went away."""
        use = self._use(name)
        use.asked_first = use.asked_last = None

    def waits(self, name: str, count: int = 1) -> None:
        """Say that requests are held for a model; with a negative count, that they are held no more."""
        use = self._use(name)
        use.waiting = max(0, use.waiting + count)
        use.used = self._monotonic()

    def began(self, name: str) -> None:
        """Say that a request goes to a replica of a model."""
        self._use(name).in_flight += 1
        self.touch(name, self._monotonic())

    def ended(self, name: str) -> None:
        """Say that such a request is over, in whatever way."""
        use = self._use(name)
        use.in_flight = max(0, use.in_flight - 1)
        self.touch(name, self._monotonic())

    def touch(self, name: str, now: float) -> None:
        """Say that a model is in use; `now` is of the table's monotonic clock."""
        self._use(name).used = now

    def use(self, name: str) -> Use:
        """Who wants a model; to be read only."""
        return self._uses.get(name) or Use()

    def _use(self, name: str) -> Use:
        return self._uses.setdefault(name, Use())

    def _clear(self, name: str) -> None:
        """Forget a name that has no replica and is not offered."""
        if not self._replicas.get(name) and name not in self._offers:
            self._replicas.pop(name, None)
            if (use := self._uses.get(name)) is not None and not use.in_flight and not use.waiting:
                del self._uses[name]

    def _tell(self, name: str) -> None:
        for told in tuple(self._subscribers):
            told(name)


def replica_at(
    base_url: str,
    served_name: str,
    *,
    embeddings: bool = False,
    keep_alive: bool = False,
    headers: tuple[tuple[str, str], ...] = (),
) -> Replica:
    """The only replica of a model, named as the model is."""
    return Replica(
        id=served_name,
        base_url=base_url,
        served_name=served_name,
        embeddings=embeddings,
        keep_alive=keep_alive,
        headers=headers,
    )


def _best(states: Iterable[State]) -> State:
    """The state of a model with such replicas: of several that load, the one that is furthest."""
    ranked = sorted(states, key=lambda state: (_BEST_FIRST.index(type(state)), -_share(state)))
    return ranked[0] if ranked else Unloaded()


def _share(state: State) -> float:
    return (state.fraction or 0.0) if isinstance(state, Loading) else 0.0
