"""Brings offered models when they are asked for, and sends others off for them; the rules are in `residency`.

What is there and what is wanted stands in the database: a model is brought by asking for its deployments, as `up` does,
and sent off by saying that they are to end, as `down` does. So a head that is killed in between leaves nothing half
done that the next one does not know how to finish; who asked for a model asks again.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from corral.errors import CorralError
from corral.gateway import table as gateway
from corral.gateway.table import Failed, Loading, State, Table, Use
from corral.launcher.fitting import Fitting
from corral.launcher.ledger import Ledger
from corral.launcher.modelsource import obtain
from corral.launcher.node import Node
from corral.launcher.prepare import cache_here, look
from corral.launcher.progress import Course
from corral.launcher.reach import reach
from corral.launcher.residency import Action, Evict, Load, Refuse, Resident, Rules, Wait, Wish, decide, expired
from corral.launcher.runner import Runner
from corral.launcher.stops import Stops
from corral.models.values import ModelFacts
from corral.store.state import Store
from corral.store.values import LIVE, Deployment, Offered
from corral.units import format_seconds

ASKED_SECONDS: Final = 60.0  # that a client who was told to come back counts as waiting
DRAIN_SECONDS: Final = 300.0  # that a model in use has for its last requests
SOON: Final = 0.1  # seconds until things may have changed
UNKNOWN_LOAD: Final = 10.0  # seconds that a load is thought to take that was never seen


class Swapper:
    """Looked at by the head again and again; `runner` gives a deployment's runner."""

    def __init__(
        self,
        store: Store,
        table: Table,
        ledger: Ledger,
        runner: Callable[[str], Runner | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._table = table
        self._ledger = ledger
        self._runner = runner
        self._clock = clock
        self._mark: object = None
        self._offers: dict[str, Offered] = {}
        self._there: dict[str, list[Deployment]] = {}  # of each offer, those that run or are about to
        self._standings: Mapping[str, tuple[str, float]] = {}
        self._others: frozenset[str] = frozenset()  # deployments of no offer
        self._ready_at: dict[str, float] = {}
        self._leaving: dict[str, float] = {}  # until when their requests may take
        self._stops = Stops()
        self._told: dict[str, float] = {}  # when the failure that is known happened
        self._bringing: dict[str, asyncio.Task[None]] = {}
        self._looked = asyncio.Event()  # set, and replaced, with each look
        self._turn = asyncio.Lock()  # of those for whom others must leave, in the order in which they were asked for

    def offers(self, name: str) -> bool:
        """Whether a model of this name is offered."""
        return name in self._offers

    def look(self, live: Sequence[Deployment]) -> bool:
        """Do what is to be done now, given all deployments that live; whether there is anything offered."""
        now = self._clock()
        self._read_offers()
        self._there = {name: [] for name in self._offers}
        for deployment in live:
            if deployment.serves in self._there and deployment.state in LIVE:
                self._there[deployment.serves].append(deployment)
        self._standings = self._store.standings()
        self._others = frozenset(d.name for d in live if d.serves not in self._offers)
        for offer in self._offers.values():
            self._note(offer, now)
        self._see_off(now)
        for name in expired(self._residents(now), self._rules(), now):
            self._send_off(name, f"idle for {format_seconds(self._offers[name].ttl or 0.0)}", now)
        for offer in sorted(self._offers.values(), key=lambda offer: self._since(offer, now)):
            if self._wanted(offer, now) and not self._there[offer.name] and offer.name not in self._bringing:
                if self._table.use(offer.name).asked_first is None:
                    self._table.demand(offer.name)  # it is wanted from now on, though nobody has said so
                self._bringing[offer.name] = asyncio.create_task(self._bring(offer), name=f"bring {offer.name}")
        self._looked.set()
        self._looked = asyncio.Event()
        return bool(self._offers)

    async def close(self) -> None:
        """Stop bringing models; what was asked for in the database goes on."""
        tasks = list(self._bringing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What is known.

    def _read_offers(self) -> None:
        mark = self._store.offers_mark()
        if mark == self._mark:
            return
        self._mark = mark
        self._offers = {offer.name: offer for offer in self._store.offers()}
        self._table.offer(gateway.Offer(o.name, o.aliases, o.fallback) for o in self._offers.values())
        for name in self._bringing.keys() - self._offers.keys():
            self._bringing[name].cancel()
        if self._store.offers_mark() == mark:
            self._store.note_offers_seen(os.getpid())
        self._stops.forget(self._stops.names() - self._offers.keys())
        for known in (self._ready_at, self._leaving, self._told):
            for name in known.keys() - self._offers.keys():
                del known[name]

    def _note(self, offer: Offered, now: float) -> None:
        """Bring up to date what is known of one model: since when it is ready, and whether it failed."""
        name, there = offer.name, self._there[offer.name]
        if any(deployment.state == "ready" for deployment in there):
            self._ready_at.setdefault(name, now)
            self._stops.forget({name})
        else:
            self._ready_at.pop(name, None)
        if there:
            return
        self._leaving.pop(name, None)
        self._note_failure(offer, now)
        stop = self._stops.look(name, now, self._around(name))
        if isinstance(stop, Failed):
            self._enter_table(offer, stop)
        elif stop:
            self._leave_table(offer)

    def _note_failure(self, offer: Offered, now: float) -> None:
        known = {r.name: self._standings[r.name] for r in offer.requests if r.name in self._standings}
        changed, name = max(((at, name) for name, (state, at) in known.items() if state == "failed"), default=(0.0, ""))
        if not name or self._told.get(offer.name) == changed or any(state in LIVE for state, _ in known.values()):
            return
        self._told[offer.name] = changed
        failed = self._store.get(name)
        if failed is not None and failed.detail.failure is not None:
            self._fail(offer, failed.detail.failure.cause, now, age=max(0.0, time.time() - changed))

    def _fail(self, offer: Offered, cause: str, now: float, *, age: float = 0.0) -> None:
        """Tell those who wait why it did not load, and do not try again at once."""
        self._enter_table(offer, self._stops.failed(offer.name, cause, now, age=age))
        self._table.drop_demand(offer.name)

    def _rules(self) -> Rules:
        offers = self._offers.values()
        return Rules(
            min_loaded=max((offer.min_loaded for offer in offers), default=0),
            min_stay=max((offer.min_stay for offer in offers), default=0.0),
        )

    def _residents(self, now: float, but: str = "") -> list[Resident]:
        return [self._resident(self._offers[n], there, now) for n, there in self._there.items() if there and n != but]

    def _resident(self, offer: Offered, there: Sequence[Deployment], now: float) -> Resident:
        use, ready_at = self._table.use(offer.name), self._ready_at.get(offer.name)
        took = max((d.detail.load_seconds or 0.0 for d in there), default=0.0)
        return Resident(
            name=offer.name,
            ready_at=ready_at,
            load_seconds=took or (UNKNOWN_LOAD if ready_at is None else 0.0),
            used=max(use.used or 0.0, ready_at if ready_at is not None else now),
            in_flight=use.in_flight,
            waiting=use.waiting,
            pinned=offer.pinned,
            leaving=offer.name in self._leaving or all(d.desired == "stopped" for d in there),
            ttl=offer.ttl,
        )

    def _around(self, name: str) -> frozenset[str]:
        """What a refusal depends on: those that will not leave for it."""
        pinned = {o.name for o in self._offers.values() if o.pinned and self._there.get(o.name)}
        return frozenset(pinned - {name}) | self._others | {f"{name} as offered at {self._mark}"}

    def _since(self, offer: Offered, now: float) -> float:
        first = self._table.use(offer.name).asked_first
        return now if first is None else first

    def _wanted(self, offer: Offered, now: float) -> bool:
        """Whether somebody waits for it, was told to come back a moment ago, or wants it there always."""
        if self._stops.holds(offer.name):
            return False
        use: Use = self._table.use(offer.name)
        asked = use.asked_last is not None and now - use.asked_last < ASKED_SECONDS
        return offer.pinned or asked or use.waiting > 0

    # What is done.

    async def _bring(self, offer: Offered) -> None:
        """Load one model, as soon as there is room for it."""
        name, took = offer.name, self._took(offer)
        course = Course(self._clock(), None)
        launched = False

        def report(stage: str, text: str, *, fraction: float | None = None, subject: str = "") -> None:
            del text, subject  # the share of the whole is enough for those who wait
            course.step(stage, fraction)
            self._enter_table(offer, Loading(course.stage, course.share(0.0), took))

        try:
            report("nodes", "")
            async with reach(offer.request.cluster) as nodes:
                facts = await look(nodes, report)
                model = await obtain(offer.request, cache_here(nodes, facts), report)
                launched = await self._when_there_is_room(offer, model, nodes)
        except CorralError as error:
            self._fail(offer, error.cause, self._clock())
        except Exception as error:
            self._fail(offer, f"Corral itself failed: {type(error).__name__}: {error}.", self._clock())
            raise
        finally:
            del self._bringing[name]
            if not launched and not self._stops.holds(name):
                self._leave_table(offer)  # nobody waits any more
                self._table.drop_demand(name)

    async def _when_there_is_room(self, offer: Offered, model: ModelFacts, nodes: Mapping[str, Node]) -> bool:
        """Wait for room and load; False when it is refused, or not wanted any more."""
        if not self._leaving and isinstance(await self._try(offer, model, nodes), Load):
            return True  # it disturbs nobody, so it waits for nobody
        async with self._turn:
            while self._wanted(offer, self._clock()) and offer.name in self._offers:
                match await self._try(offer, model, nodes):
                    case Load():
                        return True
                    case Refuse(why):
                        self._refuse(offer, why)
                        return False
                    case Wait(seconds, why):
                        took = self._took(offer)
                        self._enter_table(offer, Loading(why, 0.0, seconds + took if took is not None else None))
                        await self._pause(offer, seconds)
                    case Evict(names):
                        for name in names:
                            self._send_off(name, f"{offer.name} is asked for", self._clock())
        return False

    async def _pause(self, offer: Offered, seconds: float) -> None:
        """Wait so long, or until somebody comes, goes or falls idle, or nobody wants the model any more."""
        until, scene = self._clock() + seconds, self._scene()
        while True:
            await self._looked.wait()
            now = self._clock()
            if now >= until or self._scene() != scene or not self._wanted(offer, now):
                return

    def _scene(self) -> tuple[object, ...]:
        residents = self._residents(0.0)
        states = tuple((d.name, d.state, d.desired) for there in self._there.values() for d in there)
        return states, tuple((one.name, one.idle, one.leaving) for one in residents)

    async def _try(self, offer: Offered, model: ModelFacts, nodes: Mapping[str, Node]) -> Action:
        """Ask the rules; what can be loaded is asked for before anybody else can take its room."""
        if self._there.get(offer.name):
            return Wait(SOON, "it still ends")
        facts = await look(nodes, _in_silence)
        now = self._clock()
        ledger = self._ledger.copy()
        deployments = {name: tuple(d.name for d in there) for name, there in self._there.items()}
        fitting = Fitting(offer, model, facts, ledger, deployments)
        wish = Wish(offer.name, self._since(offer, now))
        residents = self._residents(now, but=offer.name)
        action = await asyncio.to_thread(decide, wish, residents, self._rules(), now, fitting)
        if not isinstance(action, Load):
            return action
        if not ledger.same_plans(self._ledger) or self._there.get(offer.name):
            return Wait(SOON, "others come and go")
        for name, holds in fitting.holds.items():
            self._ledger.take(name, offer.name, holds)
        launched = False
        try:
            launched = self._store.launch(offer)
        finally:
            for name in () if launched else fitting.holds:
                self._ledger.release(name)
        # It is there for those who ask before the next look.
        self._there[offer.name] = [d for name in fitting.holds if (d := self._store.get(name)) is not None]
        return action

    def _refuse(self, offer: Offered, why: str) -> None:
        refused = self._stops.refused(offer.name, why, self._clock(), self._around(offer.name))
        self._enter_table(offer, refused)
        self._table.drop_demand(offer.name)
        self._store.tell(offer.name, "model.refused", why)

    def _send_off(self, name: str, why: str, now: float) -> None:
        """Let a model take no new request; it ends when those that it has are answered."""
        self._leaving[name] = now + DRAIN_SECONDS
        self._store.tell(name, "model.leaves", why)
        for deployment in self._there[name]:
            if (runner := self._runner(deployment.name)) is not None:
                runner.retire()

    def _see_off(self, now: float) -> None:
        """End those that leave and have no request any more."""
        for name, until in self._leaving.items():
            if self._table.use(name).in_flight == 0 or now > until:
                for deployment in self._there.get(name, ()):
                    if deployment.desired != "stopped":
                        self._store.want(deployment.name, "stopped")

    def _took(self, offer: Offered) -> float | None:
        known = self._store.get(offer.request.name)
        return known.detail.load_seconds if known is not None else None

    def _enter_table(self, offer: Offered, state: State) -> None:
        there = self._table.replicas(offer.name)
        for request in offer.requests:
            if there.get(request.name) != state:
                self._table.enter(offer.name, request.name, state)

    def _leave_table(self, offer: Offered) -> None:
        for request in offer.requests:
            self._table.leave(offer.name, request.name)


def _in_silence(stage: str, text: str, *, fraction: float | None = None, subject: str = "") -> None:
    """A report that nobody reads."""
