"""What is served and in which state, as the launcher says it; plain data."""

from typing import TypeAlias

import msgspec

from corral.gateway.desk.values import Replica


class Ready(msgspec.Struct, frozen=True, tag=True):
    """It answers, through these."""

    replicas: tuple[Replica, ...]


class Loading(msgspec.Struct, frozen=True, tag=True):
    """It is on its way."""

    stage: str  # for people: "weights", "first token"
    fraction: float | None = None  # of the whole launch, 0 to 1; None: not known
    seconds_left: float | None = None  # None: not known


class Unloaded(msgspec.Struct, frozen=True, tag=True):
    """It is known, and nothing of it runs."""

    cannot: str | None = None  # why a request will not make it load, as a sentence; None: one will
    seconds: float | None = None  # that a load takes; None: not known


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It does not run, and nothing is on its way."""

    cause: str  # one sentence, for people
    seconds: float | None = None  # until asking for it is of use again; None: somebody must launch it


State: TypeAlias = Ready | Loading | Unloaded | Failed


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model under its public name."""

    name: str
    state: State
    aliases: tuple[str, ...] = ()  # other names; one that is a model's own name means that model
    fallbacks: tuple[str, ...] = ()  # models or aliases that answer where this one cannot, best first
    embeddings: bool | None = False  # it embeds; it does not generate. None: not known while nothing of it runs
