"""Carries one deployment from the wish to its end, and writes down how it stands; knows no other deployment."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NoReturn

import aiohttp

from corral.cluster.topology import machine_of
from corral.engines.base import LaunchSpec, Rank
from corral.engines.registry import engine_named
from corral.errors import CorralError, NodeFailed
from corral.gateway.desk.values import Replica
from corral.gateway.table import Failed, Loading, Ready, State, Table
from corral.launcher.gang import LOST_SECONDS, RETRY_SECONDS, stop_all
from corral.launcher.ledger import Ledger
from corral.launcher.node import Node, RankRecord
from corral.launcher.prepare import Prepared, prepare
from corral.launcher.progress import Course, Reporter
from corral.launcher.race import race, together
from corral.launcher.reach import reach
from corral.launcher.running import Running
from corral.store.database import StoreFailed
from corral.store.state import Store
from corral.store.values import Deployment, Failure, Progress, RankPlace

SHOW_SECONDS: Final = 1.0  # between two looks at how far a launch is
USE_SECONDS: Final = 10.0  # between two notes of how much memory the ranks hold
GRACE_SECONDS: Final = 10.0  # that ranks have to end by themselves


class ToldToStop(Exception):
    """The deployment is to end, because somebody said so."""


class Runner:
    """One deployment's life. `stop` ends it; cancelling lets its ranks run on, to be adopted by the next Corral."""

    def __init__(
        self, store: Store, table: Table, session: aiohttp.ClientSession, ledger: Ledger, known: Deployment
    ) -> None:
        self._store = store
        self._table = table
        self._session = session
        self._ledger = ledger
        self._name = known.name
        self._public = known.serves
        self._machines = {node.name: machine_of(node) for node in known.request.cluster.nodes}
        self._stop = asyncio.Event()
        self._retired = False
        self._course = Course(time.monotonic(), None)
        if known.detail.holds:
            ledger.take(known.name, known.serves, known.detail.holds, loading=known.state != "ready")

    def stop(self) -> None:
        """Tell the deployment to end."""
        self._stop.set()

    def retire(self) -> None:
        """Let the gateway send no more requests; those that run go on."""
        self._retired = True
        self._table.leave(self._public, self._name)

    async def run(self) -> None:
        """Live until told to stop or until it fails; the store then says `stopped`, or `failed` and why."""
        known = self._known()
        if known.desired == "stopped" or known.state == "stopping":
            self.stop()  # an earlier Corral did not come to the end of it
        async with reach(known.request.cluster) as nodes:
            failure: Failure | None = None
            try:
                if not self._stop.is_set():
                    await race(self._live(nodes), self._told())
            except ToldToStop:
                pass
            except CorralError as error:
                failure = failure_of(error)
            except Exception as error:
                failure = Failure(
                    cause=f"Corral itself failed: {type(error).__name__}: {error}.",
                    remedy="This is a defect; its trace is in logs/head.log below Corral's folder.",
                    code=3,
                )
                raise
            finally:
                if self._stop.is_set() or failure is not None:
                    await self._end(nodes, failure)

    async def _live(self, nodes: Mapping[str, Node]) -> None:
        """Adopt what runs, or launch; then serve."""
        known = self._known()
        if known.state == "ready" and known.detail.api is not None:
            self._enter(Loading("taking up", None))
            await self._reachable(known, nodes)
            async with self._recalled(known, nodes) as running:
                if await running.adopt():
                    self._store.tell(self._name, "deployment.adopted", "its ranks ran on without Corral")
                    return await self._serve(running)
        if known.detail.ranks:
            for node, reason in (await self._clean(known, nodes)).items():
                cause = f"An earlier launch of {self._name} could not be ended on {node}: {reason}"
                raise NodeFailed(node, cause, f"When {node} is back, run the command again.")
        self._store.move(
            self._name, "launching", launch_started=time.time(), failure=None, ready_at=None, ranks=(), holds=()
        )
        started = time.monotonic()
        self._course = Course(started, known.detail.load_seconds)
        self._enter(Loading("nodes", 0.0, known.detail.load_seconds))
        report = Reporter(self._store, self._name, time.monotonic, self._show)
        prepared = await prepare(known.request, nodes, report, self._ledger)
        self._remember(prepared)
        async with self._made(prepared, nodes) as running:
            first = await race(running.start(prepared.placement.model.weights_bytes, report), self._look_on(running))
            took = time.monotonic() - started
            self._store.move(
                self._name, "ready", ready_at=time.time(), first_token_seconds=first.seconds, load_seconds=took
            )
            return await self._serve(running)

    async def _reachable(self, known: Deployment, nodes: Mapping[str, Node]) -> None:
        """Wait for the nodes of ranks that may well run; NodeFailed when one stays away."""
        until = time.monotonic() + LOST_SECONDS
        while True:
            try:
                await together({name: nodes[name].describe() for name in records_of(known)})
            except NodeFailed:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _serve(self, running: Running) -> None:
        self._ledger.settle(self._name)
        self._enter(Ready(self._replica(running)))
        await race(running.serve(), self._take_notes(running))

    def _replica(self, running: Running) -> Replica:
        detail = self._known().detail
        return Replica(
            id=self._name,
            base_url=running.base_url,
            served_name=self._public,
            slots=detail.concurrency,
            embeddings=running.api.embeddings,
            keep_alive=running.api.keep_alive,
            prefill_rate=detail.prefill_rate,
            decode_rate=detail.tokens_per_second or detail.decode_rate,
        )

    async def _look_on(self, running: Running) -> NoReturn:
        """Tell how far a launch is, and how much of its memory it has taken, while it goes on."""
        while True:
            await asyncio.sleep(SHOW_SECONDS)
            self._weigh(running)
            self._show_course()

    def _weigh(self, running: Running) -> None:
        taken: dict[str, int] = {}
        for rank, rss in running.rss.items():
            machine = self._machines[running.nodes[rank]]
            taken[machine] = taken.get(machine, 0) + rss
        self._ledger.seen(self._name, taken)

    async def _take_notes(self, running: Running) -> NoReturn:
        """Measure the speed once, and write down now and then how much memory the ranks hold."""
        speed = await running.speed()
        self._note(tokens_per_second=speed)
        self._enter(Ready(self._replica(running)))
        noted: dict[str, int] = {}
        while True:
            if any(abs(rss - noted.get(rank, 0)) > rss // 50 for rank, rss in running.rss.items()):
                noted = dict(running.rss)
                self._weigh(running)
                self._note(rss=noted)
            await asyncio.sleep(USE_SECONDS)

    def _note(self, **detail: object) -> None:
        """Write down what is only worth knowing; a full disk is no reason to end what serves."""
        with suppress(StoreFailed):
            self._store.move(self._name, "ready", **detail)

    def _made(self, prepared: Prepared, nodes: Mapping[str, Node]) -> Running:
        return Running(
            prepared.spec,
            self._public,
            nodes,
            prepared.records,
            symptoms=prepared.engine.symptoms,
            logs=self._store.logs(self._name),
            session=self._session,
        )

    def _recalled(self, known: Deployment, nodes: Mapping[str, Node]) -> Running:
        """What an earlier Corral left running, from what it wrote down."""
        detail = known.detail
        assert detail.api is not None  # noqa: S101 - asked by the caller
        ranks = tuple(Rank(name=rank.name, node=rank.node, argv=(), env={}) for rank in detail.ranks)
        return Running(
            LaunchSpec(ranks=ranks, api=detail.api),
            self._public,
            nodes,
            records_of(known),
            symptoms=engine_named(detail.engine).symptoms,
            logs=self._store.logs(self._name),
            session=self._session,
        )

    def _remember(self, prepared: Prepared) -> None:
        """Write down where the ranks will be before the first one starts, so that they are found whatever happens."""
        placement, records = prepared.placement, prepared.records
        self._store.move(
            self._name,
            "launching",
            identity=placement.deployment,
            model=placement.model.name,
            engine=prepared.engine.name,
            layout=str(placement.layout),
            nodes=placement.nodes,
            ranks=[
                RankPlace(
                    name=rank.name, node=rank.node, run=records[rank.node].run, scratch=records[rank.node].scratch
                )
                for rank in prepared.spec.ranks
            ],
            api=prepared.spec.api,
            holds=prepared.placed.holds,
            concurrency=placement.concurrency,
            prefill_rate=prepared.placed.prefill_rate,
            decode_rate=prepared.placed.decode_rate,
            context=placement.context,
            weights_bytes=placement.model.weights_bytes,
            demo=placement.model.demo,
        )

    async def _end(self, nodes: Mapping[str, Node], failure: Failure | None) -> None:
        """Stop the gang on every node and write down how it ended."""
        known = self._known()
        if known.state == "stopping" and not known.detail.left:
            failure = known.detail.failure  # a Corral that was killed had begun to end it, for this reason
        with suppress(StoreFailed):  # a full disk must not keep the ranks alive
            if failure is None or known.detail.ready_at is None:
                self._store.want(self._name, "stopped")  # else it is missed: the endpoint says why until it is ended
            self._store.move(self._name, "stopping", failure=failure)
        if failure is None:
            self._table.leave(self._public, self._name)
        else:
            self._enter(Failed(failure.cause))
        left = await self._clean(known, nodes)
        self._ledger.release(self._name, keep=[self._machines[node] for node in left])
        if left and failure is None:
            node, reason = next(iter(left.items()))
            failure = Failure(
                cause=f"{self._name} could not be ended on {node}: {reason}",
                remedy=f"When {node} is back, run `corral down {self._name}` again.",
                code=3,
            )
        self._store.move(self._name, "failed" if failure else "stopped", failure=failure, left=tuple(left), holds=())
        if failure is not None:
            self._store.tell(self._name, "deployment.cause", failure.cause)

    async def _clean(self, known: Deployment, nodes: Mapping[str, Node]) -> dict[str, str]:
        return await stop_all(nodes, records_of(known), grace=GRACE_SECONDS)

    async def _told(self) -> NoReturn:
        await self._stop.wait()
        raise ToldToStop

    def _show(self, step: Progress) -> None:
        self._course.step(step.stage, step.fraction)
        self._show_course()

    def _show_course(self) -> None:
        now, course = time.monotonic(), self._course
        self._enter(Loading(course.stage, course.share(now), course.seconds(now)))

    def _enter(self, state: State) -> None:
        if not self._retired:
            self._table.enter(self._public, self._name, state)

    def _known(self) -> Deployment:
        known = self._store.get(self._name)
        if known is None:
            raise KeyError(self._name)
        return known


def records_of(known: Deployment) -> dict[str, RankRecord]:
    """Where a deployment's ranks keep their records, by node, from what was written down."""
    return {
        rank.node: RankRecord(
            run=rank.run,
            scratch=rank.scratch,
            marks={"CORRAL_DEPLOYMENT": known.detail.identity, "CORRAL_NODE": rank.node},
        )
        for rank in known.detail.ranks
    }


def failure_of(error: CorralError) -> Failure:
    """An error as it is written down."""
    return Failure(
        cause=error.cause,
        remedy=error.remedy,
        code=int(error.code),
        rank=getattr(error, "rank", ""),
        line=getattr(error, "line", ""),
    )
