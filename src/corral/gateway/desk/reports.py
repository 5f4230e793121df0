"""What the desk has to tell of itself: counts for metrics, and models that requests wait for; pure."""

from collections.abc import Iterable, Mapping

import msgspec

from corral.gateway.desk.account import Account
from corral.gateway.desk.models import Model
from corral.gateway.desk.serving import Loading, Unloaded


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """A model that requests ask for and that is not loaded."""

    model: str
    waiting: int  # requests
    keys: tuple[str, ...]  # ids of the keys that wait
    since: float  # when the first of those that wait came; where none does, when the last one asked
    asked: float  # when the last one asked


class ModelCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One model."""

    waiting: int
    waiting_seconds: float  # of estimated work
    running: int


class ReplicaCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One replica."""

    model: str
    running: int
    slots: int  # 0: no bound
    breaker: str  # "closed", "open", "half-open"
    backlog: float  # seconds until what was sent there is read
    prefill_rate: float  # tokens a second, as learned
    decode_rate: float  # tokens a second of a single stream, as learned
    prefixes: int  # blocks that are remembered


class KeyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One key."""

    live: int  # requests that wait or run
    requests_in_minute: int  # 0 where they are not limited; so with the others
    tokens_in_minute: int
    tokens_today: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, by public name or id."""

    models: Mapping[str, ModelCounts]
    replicas: Mapping[str, ReplicaCounts]
    keys: Mapping[str, KeyCounts]


def demands(models: Iterable[Model], kept: float, now: float) -> list[Demand]:
    """Models that load or could, and are asked for: somebody waits, or asked less than `kept` seconds ago."""
    found: list[Demand] = []
    for model in models:
        if not isinstance(model.state, Loading | Unloaded):
            continue
        waiting = list(model.queue)
        if waiting or now - model.asked <= kept:
            keys = tuple(sorted({ticket.ask.key for ticket in waiting}))
            since = min((ticket.arrived for ticket in waiting), default=model.asked)
            found.append(Demand(model=model.name, waiting=len(waiting), keys=keys, since=since, asked=model.asked))
    return sorted(found, key=lambda demand: demand.since)


def snapshot(models: Iterable[Model], accounts: Mapping[str, Account], now: float) -> Snapshot:
    """Counts as of now."""
    by_name = {model.name: model for model in models}
    return Snapshot(
        models={name: _model(model) for name, model in by_name.items()},
        replicas={
            state.replica.id: ReplicaCounts(
                model=name,
                running=len(state.running),
                slots=state.slots,
                breaker=state.breaker.state.value,
                backlog=max(0.0, state.busy_until - now),
                prefill_rate=state.rates.prefill,
                decode_rate=1 / state.rates.alone,
                prefixes=len(state.prefixes),
            )
            for name, model in by_name.items()
            for state in model.replicas
        },
        keys={key: _key(account) for key, account in accounts.items() if key},
    )


def _model(model: Model) -> ModelCounts:
    return ModelCounts(
        waiting=model.queue.count, waiting_seconds=max(0.0, model.queue.seconds), running=model.running()
    )


def _key(account: Account) -> KeyCounts:
    return KeyCounts(
        live=len(account.live),
        requests_in_minute=0 if account.requests is None else account.requests.used,
        tokens_in_minute=0 if account.tokens is None else account.tokens.used,
        tokens_today=account.day_tokens,
    )
