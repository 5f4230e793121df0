"""What is remembered of an exchange once it is over, for metrics, access log and usage; knows no word of it."""

from bisect import bisect_left
from typing import Final

import msgspec

# Seconds between two events of a stream. A fast engine makes a token in 3 ms; a stall is seconds.
GAP_BOUNDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)


class Gaps:
    """Times between the events of one stream, counted by GAP_BOUNDS."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(GAP_BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float, events: int) -> None:
        """`events` came together, `seconds` after the one before: the first waited, the others did not."""
        self.counts[bisect_left(GAP_BOUNDS, seconds)] += 1
        self.counts[0] += events - 1
        self.seconds += seconds


class Tokens:
    """An engine's own counts for one request; None where it does not say."""

    __slots__ = ("cached", "output", "prompt")

    def __init__(self) -> None:
        self.prompt: int | None = None
        self.cached: int | None = None  # of the prompt
        self.output: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange. Names are bounded: of the table, of replicas, of keys, of routes; empty where there was none."""

    route: str
    method: str
    model: str = ""
    replica: str = ""
    key: str = ""
    status: int = 0  # 0: the client left before any answer
    code: str = ""  # of the error that was answered: "upstream_died"
    cancelled: bool = False  # the client left before the answer was complete
    seconds: float = 0.0  # from arrival to end
    waited: float = 0.0  # of these at the desk
    first_token: float | None = None  # seconds from arrival to the first token of a stream
    gap_counts: tuple[int, ...] = ()
    gap_seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    tries: int = 0  # replicas that were asked
