"""Which models are served and by whom; knows no HTTP. Changed and read inside one event loop, so nothing locks.

The launcher writes: `table.set("qwen3", Loading("weights", 0.4))`, then `table.set("qwen3", Ready(Upstream(...)))`, or
`Failed(cause)`. Requests read. A state is replaced whole; a request that already runs keeps the upstream it began with.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Upstream:
    """An engine's OpenAI server, as reached from here."""

    base_url: str  # "http://127.0.0.1:40123": scheme, host, port, no path
    served_name: str  # the model's name in the engine; bodies are never rewritten, so it is the public one too
    embeddings: bool = False  # the model embeds; it does not generate
    keep_alive: bool = False  # its server copes with connections that wait idle for their next request (relay.py)
    headers: tuple[tuple[str, str], ...] = ()  # sent with each request: the engine's own key, where it has one


@dataclass(frozen=True, slots=True)
class Loading:
    """On its way."""

    stage: str  # for people: "weights", "first token"
    fraction: float | None = None  # of the whole launch, 0 to 1; None: not known


@dataclass(frozen=True, slots=True)
class Ready:
    """A real generation (or embedding) came back through this upstream."""

    upstream: Upstream
    since: int = 0  # Unix time, seconds; the table fills it in


@dataclass(frozen=True, slots=True)
class Failed:
    """It does not run, and nothing is on its way."""

    cause: str  # one sentence, for people


State: TypeAlias = Loading | Ready | Failed


class Table:
    """Deployments by public model name, in the order in which they were first set."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._states: dict[str, State] = {}

    def set(self, name: str, state: State) -> None:
        """Enter a deployment or replace its state; ValueError when the engine knows the model by another name."""
        if isinstance(state, Ready):
            if state.upstream.served_name != name:
                raise ValueError(f"the engine serves {state.upstream.served_name!r}, the table says {name!r}")
            if not state.since:
                state = Ready(state.upstream, int(self._clock()))
        self._states[name] = state

    def remove(self, name: str) -> None:
        """Take a deployment out; one that is not there is no error."""
        self._states.pop(name, None)

    def get(self, name: str) -> State | None:
        """The state of a deployment; None when there is none of this name."""
        return self._states.get(name)

    def states(self) -> Mapping[str, State]:
        """A copy of all states by name."""
        return dict(self._states)

    def ready(self) -> Mapping[str, Ready]:
        """The deployments that answer requests, by name."""
        return {name: state for name, state in self._states.items() if isinstance(state, Ready)}

    def only(self) -> str | None:
        """The name of the one deployment when there is exactly one: a request that names no model means it."""
        meant = [name for name, state in self._states.items() if not isinstance(state, Failed)] or self._states
        return next(iter(meant)) if len(meant) == 1 else None
