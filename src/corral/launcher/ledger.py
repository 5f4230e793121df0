"""The book of what each deployment holds of the machines' memory, from its placement to its end; reads no machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.launcher.rooms import MAIN, Held
from corral.store.values import Holding


@dataclass(slots=True)
class _Entry:
    public: str
    holds: tuple[Holding, ...]
    loading: bool = True
    taken: Mapping[str, int] = field(default_factory=dict[str, int])  # resident bytes by machine, as last seen


class Ledger:
    """Kept by the head for all its deployments, by name. What is planned here is nobody else's from that moment on."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def take(self, name: str, public: str, holds: Sequence[Holding], *, loading: bool = True) -> None:
        """Enter what a deployment was placed with; `loading`: it has yet to take it."""
        self._entries[name] = _Entry(public, tuple(holds), loading)

    def seen(self, name: str, taken: Mapping[str, int]) -> None:
        """Enter how many bytes a deployment's processes hold, by machine."""
        if (entry := self._entries.get(name)) is not None:
            entry.taken = dict(taken)

    def settle(self, name: str) -> None:
        """Say that a deployment has loaded: it has taken what it needs, and what is free does not count that."""
        if (entry := self._entries.get(name)) is not None:
            entry.loading = False

    def release(self, name: str, keep: Sequence[str] = ()) -> None:
        """Say that a deployment has ended, but for those machines where its end could not be seen to."""
        if (entry := self._entries.pop(name, None)) is not None and keep:
            left = tuple(hold for hold in entry.holds if hold.machine in keep)
            self._entries[name] = _Entry(entry.public, left, loading=False)

    def copy(self) -> "Ledger":
        """The book as it stands, which does not change when this one does."""
        other = Ledger()
        other._entries = {name: replace(entry) for name, entry in self._entries.items()}
        return other

    def same_plans(self, other: "Ledger") -> bool:
        """Whether the same deployments hold the same in both."""
        return {n: e.holds for n, e in self._entries.items()} == {n: e.holds for n, e in other._entries.items()}  # noqa: SLF001

    def holds(self, name: str) -> tuple[Holding, ...]:
        """What a deployment holds."""
        entry = self._entries.get(name)
        return entry.holds if entry is not None else ()

    def others(
        self, name: str, public: str, *, without: frozenset[str] = frozenset(), extra: Sequence[Holding] = ()
    ) -> dict[str, Held]:
        """What all but this deployment hold, by machine.

        `without`: deployments that will have ended by then; `extra`: what another replica of the same model will hold.
        """
        entries = [entry for other, entry in self._entries.items() if other != name and other not in without]
        entries += [_Entry(public, tuple(extra))] if extra else []
        leaving = [entry for other, entry in self._entries.items() if other != name and other in without]
        machines = {hold.machine for entry in (*entries, *leaving) for hold in entry.holds}
        return {machine: _held(machine, public, entries, leaving) for machine in machines}


def _held(machine: str, public: str, entries: Sequence[_Entry], leaving: Sequence[_Entry]) -> Held:
    devices: dict[int, int] = {}
    beside: set[int] = set()
    pending = 0
    for entry in entries:
        for hold in entry.holds:
            if hold.machine != machine:
                continue
            devices[hold.device] = devices.get(hold.device, 0) + hold.bytes
            if entry.public == public:
                beside.add(hold.device)
            if entry.loading and hold.device == MAIN:
                pending += max(0, hold.bytes - entry.taken.get(machine, 0))
    memory = devices.pop(MAIN, 0)
    return Held(
        memory=memory,
        pending=pending,
        freed=sum(_main(entry, machine) for entry in leaving if not entry.loading),
        devices=devices,
        beside=bool(beside),
        beside_devices=frozenset(beside - {MAIN}),
    )


def _main(entry: _Entry, machine: str) -> int:
    """Bytes of main memory that come free with a deployment's end: what it was planned with, or more if it has more."""
    planned = sum(hold.bytes for hold in entry.holds if hold.machine == machine and hold.device == MAIN)
    return max(planned, entry.taken.get(machine, 0)) if planned else 0
