"""What the gateway counts, for Prometheus; knows records of exchanges and the desk's state, not how they come about.

Counting is adding to plain numbers: it happens for each request, while a page is made a few times a minute. Labels are
bounded: `model` and `replica` are names of the table, `route` one of a fixed set, `key` a key's public id, of which
the first KEYS stand by themselves and all further ones as "other".
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from corral.gateway.errors import UPSTREAM_CODES
from corral.gateway.record import GAP_BOUNDS, Record

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
KEYS: Final = 100

# Seconds. A cached short prompt answers in 10 ms; a cold 100k-token prompt on slow hardware takes minutes.
_TTFT_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_QUEUE_BOUNDS: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_DURATION_BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_LABELS: Final = ("model", "replica", "key")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How the desk stands, for gauges."""

    in_flight: dict[tuple[str, str], int] = {}  # by model and replica
    queued: dict[str, int] = {}  # by model
    breakers: dict[tuple[str, str], str] = {}  # by model and replica: "closed", "half-open", "open"


class Metrics(Collector):
    """The gateway's own registry; two gateways in one process do not share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._standing = Standing()
        self._requests: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._series: dict[tuple[str, str, str], _Series] = {}
        self._upstream_errors: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self._keys: set[str] = set()
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def ended(self, record: Record) -> None:
        """An exchange is over."""
        key = self._bounded(record.key)
        labels = (record.model, record.replica, key)
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series()
        status = f"{record.status // 100}xx" if record.status else "none"
        self._requests[*labels, record.route, status] += 1
        if record.code in UPSTREAM_CODES:
            self._upstream_errors[record.model, record.replica, record.code] += 1
        series.add(record)

    def retried(self, model: str, replica: str, code: str) -> None:
        """A replica failed a request that went to another one."""
        self._upstream_errors[model, replica, code] += 1

    def exposition(self, standing: Standing) -> bytes:
        """All of it in Prometheus' text format."""
        self._standing = standing
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """Give all families, for the registry."""
        every = self._series.items()
        answered = ("model", "replica", "key", "route", "status")
        yield _family(CounterMetricFamily, "requests", _REQUESTS, answered, self._requests.items())
        for name, text, of in _COUNTERS:
            yield _family(CounterMetricFamily, name, text, _LABELS, [(at, of(one)) for at, one in every])
        yield _family(CounterMetricFamily, "tokens", _TOKENS, (*_LABELS, "kind"), _tokens(every))
        failed = ("model", "replica", "code")
        yield _family(CounterMetricFamily, "upstream_errors", _UPSTREAM, failed, self._upstream_errors.items())
        for name, text, measured in _HISTOGRAMS:
            yield _histogram(name, text, [(at, measured(one)) for at, one in every])
        standing, place = self._standing, ("model", "replica")
        queued = [((model,), count) for model, count in standing.queued.items()]
        breakers = [(at, _BREAKERS[state]) for at, state in standing.breakers.items()]
        yield _family(GaugeMetricFamily, "in_flight", _IN_FLIGHT, place, standing.in_flight.items())
        yield _family(GaugeMetricFamily, "queued", _QUEUED, ("model",), queued)
        yield _family(GaugeMetricFamily, "breaker_open", _BREAKER, place, breakers)

    def _bounded(self, key: str) -> str:
        if key in self._keys or not key:
            return key
        if len(self._keys) >= KEYS:
            return "other"
        self._keys.add(key)
        return key


class _Histogram:
    """Counts by bucket, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: (upper bound, how many at most that)."""
        sums: list[tuple[str, float]] = []
        so_far = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            sums.append((bound, so_far))
        return sums


class _Series:
    """What is counted for one model, replica and key."""

    __slots__ = (
        "bytes_in", "bytes_out", "cached", "cancelled", "duration", "gaps", "output", "prompt", "queue", "retries",
        "ttft",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cancelled = self.retries = self.bytes_in = self.bytes_out = 0
        self.prompt = self.cached = self.output = 0
        self.ttft = _Histogram(_TTFT_BOUNDS)
        self.queue = _Histogram(_QUEUE_BOUNDS)
        self.duration = _Histogram(_DURATION_BOUNDS)
        self.gaps = _Histogram(GAP_BOUNDS)

    def add(self, record: Record) -> None:
        self.cancelled += record.cancelled
        self.retries += max(0, record.tries - 1)
        self.bytes_in += record.bytes_in
        self.bytes_out += record.bytes_out
        self.prompt += record.prompt_tokens
        self.cached += record.cached_tokens
        self.output += record.output_tokens
        self.duration.observe(record.seconds)
        if record.tries:
            self.queue.observe(record.waited)
        if record.first_token is not None:
            self.ttft.observe(record.first_token)
        if record.gap_counts:
            self.gaps.counts = [a + b for a, b in zip(self.gaps.counts, record.gap_counts, strict=True)]
            self.gaps.total += record.gap_seconds


_COUNTERS: Final[tuple[tuple[str, str, Callable[[_Series], float]], ...]] = (
    ("cancelled", "Requests whose client left before the answer was complete", lambda one: one.cancelled),
    ("retries", "Times that a request went on to another replica", lambda one: one.retries),
    ("request_bytes", "Bytes of request bodies", lambda one: one.bytes_in),
    ("response_bytes", "Bytes of response bodies", lambda one: one.bytes_out),
)
_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[_Series], _Histogram]], ...]] = (
    ("ttft_seconds", "From a request's arrival to the first token of a streamed answer", lambda one: one.ttft),
    ("inter_token_seconds", "Between two events of a stream", lambda one: one.gaps),
    ("queue_seconds", "That a request waited before it went to an engine", lambda one: one.queue),
    ("request_duration_seconds", "From a request's arrival to the end of its answer", lambda one: one.duration),
)
_REQUESTS: Final = "Requests that ended, by class of HTTP status"
_TOKENS: Final = "Tokens as engines count them; cached ones are part of the prompt"
_UPSTREAM: Final = "Answers that an engine failed to give, by error code"
_IN_FLIGHT: Final = "Requests that a replica answers now"
_QUEUED: Final = "Requests that wait for a replica"
_BREAKER: Final = "1: a replica is left alone; 0.5: it is tried again"
_BREAKERS: Final = {"closed": 0.0, "half-open": 0.5, "open": 1.0}


def _tokens(series: Iterable[tuple[tuple[str, ...], _Series]]) -> Iterator[tuple[tuple[str, ...], float]]:
    for at, one in series:
        yield (*at, "prompt"), one.prompt
        yield (*at, "cached"), one.cached
        yield (*at, "output"), one.output


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], float]],
) -> Metric:
    family = kind(f"corral_gateway_{name}", text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def _histogram(name: str, text: str, values: Iterable[tuple[tuple[str, ...], _Histogram]]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"corral_gateway_{name}", text, labels=_LABELS)
    for at, value in values:
        if any(value.counts):
            family.add_metric(at, buckets=value.cumulated(), sum_value=value.total)
    return family
