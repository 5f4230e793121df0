"""What a command does once it has launched: stay while it runs, end it after Ctrl-C; knows no option and no model."""

import os
import signal
import time
from collections.abc import Sequence
from types import FrameType

from rich.markup import escape

from corral.cli.console import stderr
from corral.cli.follow import LOOK_SECONDS, HeadKeeper, Pause, wait_for_the_head, wait_stopped
from corral.errors import CorralError, EngineFailed, ExitCode
from corral.store.state import Store
from corral.store.values import Deployment, Failure


class Interrupted(Exception):
    """Ctrl-C, the end of the terminal, or a request to terminate."""


class Interrupts:
    """Takes note of signals that end a command; raised only in a pause, so that no write or drawing is torn apart."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                signal.signal(number, self._note)

    def pause(self, seconds: float) -> None:
        """Sleep; Interrupted when a signal has come."""
        if not self._came:
            time.sleep(seconds)
        if self._came:
            self._came = False
            raise Interrupted

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came = True
        if number == signal.SIGHUP:
            for output in (1, 2):
                if not os.isatty(output):  # nor is a terminal that has hung up: what is written there would be an error
                    os.dup2(os.open(os.devnull, os.O_WRONLY), output)


def stay(store: Store, names: Sequence[str], keeper: HeadKeeper, pause: Pause) -> None:
    """Stay while one of the deployments runs; say why each ends, and raise that when none is left."""
    told: dict[str, Failure | None] = {}
    while True:
        for known in [known for name in names if (known := _over(store, name)) is not None and name not in told]:
            failure = known.detail.failure if known.state == "failed" else None
            told[known.name] = failure
            if failure is not None and len(names) > 1:
                stderr.print(f"{escape(known.name)}: {escape(failure.cause)}", soft_wrap=True)
            elif failure is None:
                stderr.print(f"{escape(known.name)} has ended.")
        if len(told) == len(names):
            return _all_over(store, told)
        keeper.look()
        pause(LOOK_SECONDS)


def stay_offered(store: Store, names: Sequence[str], keeper: HeadKeeper, pause: Pause) -> None:
    """Stay while one of the models is offered, loaded or not."""
    while any(offer.name in names for offer in store.offers()):
        keeper.look()
        pause(LOOK_SECONDS)
    stderr.print(f"{escape(', '.join(names))}: offered no more.")
    wait_for_the_head(store)


def withdraw(store: Store, names: Sequence[str], pause: Pause) -> None:
    """Offer the models no more, and end what runs of them; a second Ctrl-C leaves that to the head."""
    store.withdraw(*names)
    running = [d.name for d in store.deployments() if d.serves in names and d.state != "stopped"]
    for name in running:
        store.end(name)
    try:
        for name in running:
            wait_stopped(store, name, pause)
    except Interrupted:
        stderr.print("They go on ending; `corral status` shows whether they have.")
        return
    wait_for_the_head(store)


def _over(store: Store, name: str) -> Deployment | None:
    """The deployment if it runs no more; one that was launched again has not ended."""
    known = store.get(name)
    return known if known is not None and known.state in {"stopped", "failed"} else None


def _all_over(store: Store, told: dict[str, Failure | None]) -> None:
    failures = [failure for failure in told.values() if failure is not None]
    for name, failure in told.items():
        if failure is not None:
            store.want(name, "stopped")  # whoever wanted it knows now
    if failures:
        raise CorralError(failures[0].cause, failures[0].remedy, code=ExitCode(failures[0].code))
    wait_for_the_head(store)


def end(store: Store, names: Sequence[str], pause: Pause) -> None:
    """End the deployments after Ctrl-C; a second one leaves the rest to the head."""
    for name in names:
        store.want(name, "stopped")
    spoken = escape(", ".join(names))
    stderr.print(f"\nending {spoken} on every node ...")
    try:
        left = [wait_stopped(store, name, pause) for name in names]
    except Interrupted:
        stderr.print(f"{spoken} goes on ending; `corral status` shows whether it has.")
        return
    for one in left:
        if one.failure is not None and one.left:
            raise EngineFailed(one.failure.cause, one.failure.remedy)
    wait_for_the_head(store)
    stderr.print(f"{spoken} {'has' if len(names) == 1 else 'have'} ended.")


def give_up(store: Store, names: Sequence[str]) -> None:
    """End what came up of several that were to come up together, and wait for the head to end if nothing else runs."""
    for name in names if len(names) > 1 else ():
        store.end(name)
    for name in names if len(names) > 1 else ():
        wait_stopped(store, name, time.sleep)
    wait_for_the_head(store)
