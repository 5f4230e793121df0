"""How long a load may take: five minutes and twenty seconds a GiB, more while it progresses; knows no clock."""

from dataclasses import dataclass, field
from typing import Final

from corral.units import GIB

BASE_SECONDS: Final = 300.0
SECONDS_PER_GIB: Final = 20.0
# How long a rank may be silent before the deadline counts again: a shard from a slow disk, a compilation of kernels.
QUIET_SECONDS: Final = 120.0
# CPU seconds a look that count as work; an idle server's housekeeping stays below.
BUSY_CPU: Final = 0.5
# However busy it looks: ranks that wait for each other spin on a core and repeat that they wait.
CEILING: Final = 4.0


@dataclass
class Deadline:
    """When to give a load up. Times are seconds of the caller's monotonic clock."""

    started: float
    weights_bytes: int
    _progress_at: float = field(default=0.0)
    _cpu: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def seconds(self) -> float:
        """The load's allowance without any sign of progress."""
        return BASE_SECONDS + SECONDS_PER_GIB * self.weights_bytes / GIB

    def log(self, now: float) -> None:
        """A rank wrote to its log."""
        self._progress_at = now

    def cpu(self, rank: str, seconds: float, now: float) -> None:
        """A rank was seen to have used so many CPU seconds in all."""
        before = self._cpu.get(rank)
        self._cpu[rank] = seconds
        if before is not None and seconds - before >= BUSY_CPU:
            self._progress_at = now

    def expired(self, now: float) -> bool:
        """Whether the allowance is over and nothing has moved for a while, or all that progress may add is used up."""
        elapsed = now - self.started
        quiet = now - self._progress_at > QUIET_SECONDS
        return elapsed > self.seconds and (quiet or elapsed > CEILING * self.seconds)
