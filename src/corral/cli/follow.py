"""Follows a launch in the database, with a bar for each stage; knows what is written there, not who writes it."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from corral.cli.console import stderr
from corral.cluster.endpoint import EndpointSettings
from corral.errors import CorralError, EngineFailed, ExitCode
from corral.launcher.daemon import ensure_head, head_lives
from corral.store.database import home
from corral.store.state import Store
from corral.store.values import Deployment, Detail

LOOK_SECONDS: Final = 0.1
STARTS: Final = 3  # of a head during one wait, before it is called hopeless

FORGIVEN_SECONDS: Final = 60.0  # that a head has lived, after which earlier ends do not count

Pause = Callable[[float], None]


class HeadKeeper:
    """Sees that a head runs while a command waits for what it does: one may have ended just then, or been killed."""

    def __init__(self, store: Store, start: Callable[[], object]) -> None:
        self._store = store
        self._start = start
        self._starts = 0
        self._started_at = 0.0

    def look(self) -> None:
        """Start a head if there is none; EngineFailed when that helped too often."""
        if head_lives():
            if time.monotonic() - self._started_at > FORGIVEN_SECONDS:
                self._starts = 0
            return
        if self._starts == STARTS:
            log = home() / "logs" / "head.log"
            raise EngineFailed(
                f"Corral's head has ended {STARTS} times; the engine's ranks may still run.",
                f"Read its last words in {log}, then end what is left with `corral down`.",
            )
        self._starts += 1
        self._store.tell(None, "head.missed", "there is work and no head; starting one")  # a full disk shows here
        self._start()
        self._started_at = time.monotonic()


def follow(
    store: Store, names: Sequence[str], keeper: HeadKeeper, pause: Pause, *, quiet: bool
) -> tuple[Deployment, ...]:
    """Show the stages until all the deployments are ready; the failure of one is raised as the error that it is."""
    bars = Bars(enabled=not quiet)
    with bars.live:
        while True:
            found = tuple(_found(store, name) for name in names)
            for known in found:
                bars.show(store, known.name, among=len(names))
            if all(known.state == "ready" for known in found):
                return found
            for known in found:
                if known.state in {"failed", "stopped"}:
                    raise _error(known)
            keeper.look()
            pause(LOOK_SECONDS)


def _found(store: Store, name: str) -> Deployment:
    known = store.get(name)
    if known is None:
        raise EngineFailed(f"{name} was forgotten while it started.", "Run the command again.")
    return known


def wait_stopped(store: Store, name: str, pause: Pause) -> Detail:
    """Wait until the deployment has ended; gives how."""
    keeper = HeadKeeper(store, lambda: ensure_head(EndpointSettings(port=0)))
    while True:
        known = store.get(name)
        if known is None:
            return Detail()
        if known.state in {"stopped", "failed"}:
            return known.detail
        keeper.look()
        pause(LOOK_SECONDS)


def wait_for_the_head(store: Store) -> None:
    """A head without deployments ends; wait for that, so that nothing runs when a command has ended its deployment."""
    while head_lives() and not store.live() and not store.offers():
        time.sleep(LOOK_SECONDS / 2)


def _error(known: Deployment) -> CorralError:
    failure = known.detail.failure
    if failure is None:
        return CorralError(f"{known.name} was ended before it was ready.", "Run the command again.", code=ExitCode.NO)
    return CorralError(failure.cause, failure.remedy, code=ExitCode(failure.code))


class Bars:
    """One line a stage and subject. On something that is no terminal, one plain line when a stage ends."""

    def __init__(self, *, enabled: bool) -> None:
        self._plain = enabled and not stderr.is_terminal
        self.live = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.fields[stage]:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=stderr,
            disable=not enabled or self._plain,
        )
        self._tasks: dict[tuple[str, str, str], TaskID] = {}
        self._told: set[tuple[str, str, str]] = set()

    def show(self, store: Store, name: str, *, among: int = 1) -> None:
        """Bring a deployment's lines up to date; `among` several, each says whose it is."""
        for step in store.progress_of(name):
            key = (name, step.stage, step.subject)
            text = f"{step.subject}: {step.text}" if step.subject else step.text
            text = escape(text if among == 1 else f"{name}: {text}")
            if self._plain:
                if step.fraction == 1.0 and key not in self._told:
                    self._told.add(key)
                    stderr.print(f"{step.stage:<12} {text}", soft_wrap=True)
                continue
            if key not in self._tasks:
                self._tasks[key] = self.live.add_task(text, total=None, stage=step.stage)
            total = 1.0 if step.fraction is not None else None
            self.live.update(self._tasks[key], description=text, total=total, completed=step.fraction or 0.0)
