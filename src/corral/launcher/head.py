"""The head: one gateway and a runner for every deployment that is wanted; knows no stage of a launch."""

import asyncio
import sys
from contextlib import suppress
from typing import Final

import aiohttp

from corral.gateway.table import Failed, Table
from corral.launcher.ledger import Ledger
from corral.launcher.runner import Runner
from corral.launcher.swap import Swapper
from corral.store.database import StoreFailed
from corral.store.state import Store
from corral.store.values import Deployment

LOOK_SECONDS: Final = 0.1  # between two looks at what is wanted
IDLE_SECONDS: Final = 2.0  # that a new head waits for the first deployment
DONE_SECONDS: Final = 0.2  # that it waits for another once the last one has ended


class Head:
    """Compares what is wanted with what runs, until nothing is wanted any more."""

    def __init__(self, store: Store, table: Table, session: aiohttp.ClientSession) -> None:
        self._store = store
        self._table = table
        self._session = session
        self._ledger = Ledger()
        self._swapper = Swapper(store, table, self._ledger, self._runner)
        self._runners: dict[str, tuple[Runner, asyncio.Task[None]]] = {}
        self._trouble = ""  # what was last wrong with the database
        self._given_up: set[tuple[str, float]] = set()  # (name, created) of those whose runner had a defect

    async def run(self) -> None:
        """Run deployments until none is wanted for a while; cancelled, it lets their ranks run on."""
        loop = asyncio.get_running_loop()
        idle_since: float | None = loop.time()
        allowed = IDLE_SECONDS
        try:
            # Idle is what a look found, never that the last look is long ago: a stalled loop is no reason to end.
            while True:
                if self._busy():
                    idle_since, allowed = None, DONE_SECONDS
                elif idle_since is None:
                    idle_since = loop.time()
                elif loop.time() - idle_since > allowed:
                    return
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._swapper.close()
            for _, task in self._runners.values():
                task.cancel()
            for _, task in self._runners.values():
                with suppress(asyncio.CancelledError, Exception):
                    await task

    def _busy(self) -> bool:
        """Look; a database that cannot be read just now is no reason to end what serves."""
        try:
            return self._look()
        except StoreFailed as error:
            if str(error) != self._trouble:
                sys.stderr.write(f"{error}\n")
            self._trouble = str(error)
            return True

    def _look(self) -> bool:
        """Start and stop what has to be; whether there is anything to do."""
        live = [d for d in self._store.live() if (d.name, d.created) not in self._given_up]
        for deployment in live:
            if deployment.state == "failed":
                if not self._swapper.offers(deployment.serves):
                    self._excuse(deployment)
                continue
            entry = self._runners.get(deployment.name)
            if entry is None:
                runner = Runner(self._store, self._table, self._session, self._ledger, deployment)
                self._runners[deployment.name] = (runner, asyncio.create_task(runner.run()))
                entry = self._runners[deployment.name]
            if deployment.desired == "stopped":
                entry[0].stop()
        for name in [name for name, (_, task) in self._runners.items() if task.done()]:
            _, task = self._runners.pop(name)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._give_up(name, error)
        self._forget({deployment.name for deployment in live})
        offered = self._swapper.look(live)
        return bool(live or self._runners or offered)

    def _runner(self, name: str) -> Runner | None:
        entry = self._runners.get(name)
        return entry[0] if entry is not None else None

    def _excuse(self, failed: Deployment) -> None:
        """Let the endpoint say why a deployment does not answer any more, also if an earlier head saw it fail."""
        if failed.name not in self._table.replicas(failed.serves) and failed.detail.failure is not None:
            self._table.enter(failed.serves, failed.name, Failed(failed.detail.failure.cause))

    def _forget(self, live: set[str]) -> None:
        """Take those that ended for good out of the gateway's table."""
        there = {replica: public for public in self._table.states() for replica in self._table.replicas(public)}
        for name in there.keys() - live - self._runners.keys():
            if self._swapper.offers(there[name]):
                continue
            known = self._store.get(name)
            if known is None or known.state == "stopped":
                self._table.leave(there[name], name)

    def _give_up(self, name: str, error: BaseException) -> None:
        """A runner failed in a way that nobody foresaw: say so, and do not try the same again at once."""
        known = self._store.get(name)
        if known is not None:
            self._given_up.add((name, known.created))
        with suppress(StoreFailed):
            self._store.tell(name, "corral.defect", repr(error))
        context = {"message": f"the runner of {name} failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
