"""Who waits for one model, and who is next; knows no limit, no engine and no clock.

Between priorities: the highest goes first, but each time it passes a lower one that waits, the lower one ages; when it
was passed `ageing` times for each step between them, it has its turn. So nobody starves, however short or long the
requests are.

Between keys of one priority: start-time fair queueing (Goyal, Vin, Cheng 1996) over seconds of work. A key has a tag,
the work that it got; the key with the smallest tag is next, and its tag grows by what its request costs. A key that
comes new starts at the tag that is served now: it has no claim to the past, and owes nothing for it. Tags are set when
a request is taken, not when it comes, so that costs can be corrected once they are known.

Within a key: in order of arrival. Taking and putting in are O(log keys), leaving is O(1).
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from corral.gateway.desk.tickets import Ticket

_MANY: Final = 64  # keys; an estimate may be cruder beyond


class _Flow:
    """One key's requests of one priority."""

    __slots__ = ("entry", "key", "seconds", "tag", "waiting")

    def __init__(self, key: str, tag: float) -> None:
        self.key = key
        self.tag = tag
        self.seconds = 0.0  # of work that waits
        self.waiting: OrderedDict[int, Ticket] = OrderedDict()
        self.entry = -1  # its valid one in the heap; others are stale


class _Level:
    """One priority. Exists only while somebody waits in it."""

    __slots__ = ("_entries", "_heap", "count", "flows", "seconds", "tag", "turn")

    def __init__(self, turn: int) -> None:
        self.flows: dict[str, _Flow] = {}
        self.count = 0
        self.seconds = 0.0
        self.turn = turn  # of the queue, when this level had its last one or came to be
        self.tag = 0.0  # of the request that was taken last
        self._heap: list[tuple[float, int, _Flow]] = []
        self._entries = 0

    def flow(self, key: str) -> _Flow:
        flow = self.flows.get(key)
        if flow is None:
            flow = self.flows[key] = _Flow(key, self.tag)
        return flow

    def offer(self, flow: _Flow) -> None:
        """Let a flow with waiting requests take part, at its tag."""
        self._entries += 1
        flow.entry = self._entries
        heapq.heappush(self._heap, (flow.tag, self._entries, flow))
        if len(self._heap) > 2 * len(self.flows) + 8:
            self._heap = [entry for entry in self._heap if entry[1] == entry[2].entry]
            heapq.heapify(self._heap)

    def retire(self, flow: _Flow) -> None:
        """A flow has no more waiting requests. It is remembered while it is ahead of the others."""
        flow.entry = -1
        flow.seconds = 0.0
        if flow.tag <= self.tag:
            del self.flows[flow.key]

    def ahead_of(self, mine: _Flow | None, until: float) -> float:
        """Seconds of the other keys' work that are taken before a key got `until` seconds."""
        rest = self.seconds - (0.0 if mine is None else mine.seconds)
        if len(self.flows) > _MANY:
            return min(rest, until * len(self.flows))
        return sum([min(flow.seconds, until) for flow in self.flows.values() if flow is not mine])

    def next(self) -> _Flow:
        while True:
            tag, entry, flow = heapq.heappop(self._heap)
            if entry == flow.entry:
                self.tag = max(self.tag, tag)
                return flow


class FairQueue:
    """Tickets that wait for one model."""

    __slots__ = ("_ageing", "_levels", "_turn", "choosy", "count", "seconds")

    def __init__(self, ageing: int) -> None:
        self._ageing = ageing
        self._levels: dict[int, _Level] = {}
        self._turn = 0
        self.count = 0
        self.choosy = 0  # of these, tickets that could go on elsewhere
        self.seconds = 0.0  # of work that waits, as estimated

    def __len__(self) -> int:
        return self.count

    def push(self, ticket: Ticket, *, front: bool = False) -> None:
        """Let a ticket wait; `front`: before the others of its key, because it was taken already and paid for."""
        level = self._levels.get(ticket.priority)
        if level is None:
            level = self._levels[ticket.priority] = _Level(self._turn)
        flow = level.flow(ticket.ask.key)
        flow.waiting[ticket.number] = ticket
        if front:
            flow.waiting.move_to_end(ticket.number, last=False)
            flow.tag -= ticket.charged
            ticket.charged = 0.0
        flow.seconds += ticket.cost
        self.choosy += ticket.choosy
        self._count(level, 1, ticket.cost)
        if front or len(flow.waiting) == 1:
            flow.tag = max(flow.tag, level.tag)
            level.offer(flow)

    def pop(self) -> Ticket:
        """Take the next ticket; IndexError when none waits."""
        priority = self._next_level()
        level = self._levels[priority]
        self._turn += 1
        level.turn = self._turn
        flow = level.next()
        _, ticket = flow.waiting.popitem(last=False)
        flow.tag += ticket.cost
        ticket.charged = ticket.cost
        self._took(priority, level, flow, ticket)
        if flow.waiting:
            level.offer(flow)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Let a ticket that waits here go; it costs its key nothing."""
        level = self._levels[ticket.priority]
        flow = level.flows[ticket.ask.key]
        del flow.waiting[ticket.number]
        self._took(ticket.priority, level, flow, ticket)

    def correct(self, ticket: Ticket, cost: float) -> None:
        """A ticket cost so many seconds, not what was charged: an estimate, or nothing where it did not wait."""
        level = self._levels.get(ticket.priority)
        flow = None if level is None else level.flows.get(ticket.ask.key)
        if level is None or flow is None:
            return
        flow.tag = max(level.tag, flow.tag + cost - ticket.charged)
        if flow.waiting:
            level.offer(flow)

    def ahead(self, ticket: Ticket) -> tuple[float, float]:
        """Seconds of work that would be taken before this ticket if it came now: others', and of its own key."""
        others = own = 0.0
        for priority, level in self._levels.items():
            if priority > ticket.priority:
                others += level.seconds
            elif priority == ticket.priority:
                mine = level.flows.get(ticket.ask.key)
                own = 0.0 if mine is None else mine.seconds
                until = own + ticket.cost + (0.0 if mine is None else max(0.0, mine.tag - level.tag))
                others += level.ahead_of(mine, until)
        return others, own

    def longest(self, priority: int) -> Ticket | None:
        """The newest ticket of the key with the most of them, among priorities up to this one."""
        flows = (flow for at, level in self._levels.items() if at <= priority for flow in level.flows.values())
        most = max(flows, key=lambda flow: len(flow.waiting), default=None)
        return next(reversed(most.waiting.values())) if most is not None and most.waiting else None

    def of_key(self, ticket: Ticket) -> int:
        """How many tickets of this one's key and priority wait."""
        level = self._levels.get(ticket.priority)
        flow = None if level is None else level.flows.get(ticket.ask.key)
        return 0 if flow is None else len(flow.waiting)

    def __iter__(self) -> Iterator[Ticket]:
        for level in self._levels.values():
            for flow in level.flows.values():
                yield from flow.waiting.values()

    def _next_level(self) -> int:
        """The level whose last turn, less what its priority is worth in turns, is the longest ago."""
        levels = self._levels
        if len(levels) == 1:
            return next(iter(levels))
        if not levels:
            raise IndexError
        return min(levels, key=lambda priority: (levels[priority].turn - self._ageing * priority, priority))

    def _took(self, priority: int, level: _Level, flow: _Flow, ticket: Ticket) -> None:
        flow.seconds -= ticket.cost
        self.choosy -= ticket.choosy
        self._count(level, -1, -ticket.cost)
        if not level.count:
            del self._levels[priority]
        elif not flow.waiting:
            level.retire(flow)

    def _count(self, level: _Level, more: int, seconds: float) -> None:
        level.count += more
        level.seconds += seconds
        self.count += more
        self.seconds = self.seconds + seconds if self.count else 0.0
