"""All tickets that wait, by when their wait is over; knows no queue and no reason to wait."""

import heapq
from math import inf
from typing import Final

from corral.gateway.desk.tickets import Ticket

_STALE: Final = 64  # entries of tickets that are gone, beyond as many as wait, before they are swept out


class Waiting:
    """Tickets and their deadlines. Putting in and taking out the next is O(log n), leaving is O(1)."""

    __slots__ = ("_heap", "tickets")

    def __init__(self) -> None:
        self.tickets: dict[int, Ticket] = {}
        self._heap: list[tuple[float, int]] = []

    def add(self, ticket: Ticket) -> None:
        """Let it wait until its deadline; one that waits already has a new deadline."""
        self.tickets[ticket.number] = ticket
        heapq.heappush(self._heap, (ticket.deadline, ticket.number))
        if len(self._heap) > 2 * len(self.tickets) + _STALE:
            self._heap = [(each.deadline, each.number) for each in self.tickets.values()]
            heapq.heapify(self._heap)

    def remove(self, ticket: Ticket) -> bool:
        """Take it out; whether it was there."""
        return self.tickets.pop(ticket.number, None) is not None

    def next(self) -> float:
        """The first deadline; inf when nothing waits."""
        heap = self._heap
        while heap:
            deadline, number = heap[0]
            ticket = self.tickets.get(number)
            if ticket is not None and ticket.deadline == deadline:
                return deadline
            heapq.heappop(heap)
        return inf

    def expired(self, now: float) -> list[Ticket]:
        """Those whose wait is over; they still wait."""
        found: list[Ticket] = []
        while self.next() <= now:
            _, number = heapq.heappop(self._heap)
            found.append(self.tickets[number])
        return found

    def __len__(self) -> int:
        return len(self.tickets)
