"""What the gateway counts, for Prometheus; knows exchanges, not how they are answered.

Labels are bounded: `model` is a name of the table or empty, `route` one of a fixed set of paths or "none", `status` a
class such as "2xx" ("none" when the client left before any answer).
"""

from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from corral.gateway.wire.asgi import Exchange

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()

# Seconds. A cached short prompt answers in 10 ms; a cold 100k-token prompt on slow hardware takes minutes.
_TTFT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_DURATION_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_LABELS: Final = ("model", "route")


class Metrics:
    """The gateway's own registry; two gateways in one process do not share counts."""

    def __init__(self) -> None:
        disable_created_metrics()  # a second series for each one, which nothing here reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = self._counter("requests", "Requests that ended, by class of HTTP status", "status")
        self._cancelled = self._counter("cancelled", "Requests whose client left before the answer was complete")
        self._bytes_in = self._counter("request_bytes", "Bytes of request bodies")
        self._bytes_out = self._counter("response_bytes", "Bytes of response bodies")
        self._upstream_errors = Counter(
            "corral_gateway_upstream_errors",
            "Answers that an engine failed to give, by OpenAI error code",
            ("model", "code"),
            registry=self.registry,
        )
        self._in_flight = Gauge(
            "corral_gateway_in_flight", "Requests that are being answered", ("model",), registry=self.registry
        )
        self._ttft = self._histogram(
            "ttft_seconds", "From the request's arrival to the first chunk of a streamed answer", _TTFT_BUCKETS
        )
        self._duration = self._histogram(
            "request_duration_seconds", "From the request's arrival to the end of its answer", _DURATION_BUCKETS
        )
        self._series: dict[tuple[str, str], _Series] = {}

    def began(self, model: str) -> None:
        """A request for a model is about to be forwarded."""
        self._in_flight.labels(model).inc()

    def left(self, model: str) -> None:
        """That request ended, in whatever way."""
        self._in_flight.labels(model).dec()

    def upstream_error(self, model: str, code: str) -> None:
        """An engine could not be reached, died, or refused the gateway."""
        self._upstream_errors.labels(model, code).inc()

    def ended(self, exchange: Exchange, seconds: float) -> None:
        """An exchange is over, `seconds` after it arrived."""
        series = self._of(exchange.model, exchange.route)
        status = f"{exchange.status // 100}xx" if exchange.status else "none"
        self._requests.labels(exchange.model, exchange.route, status).inc()
        series.duration.observe(seconds)
        series.bytes_in.inc(exchange.bytes_in)
        series.bytes_out.inc(exchange.bytes_out)
        if exchange.first_chunk:
            series.ttft.observe(exchange.first_chunk - exchange.arrived)
        if exchange.cancelled:
            series.cancelled.inc()

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def _of(self, model: str, route: str) -> "_Series":
        key = (model, route)
        if key not in self._series:
            self._series[key] = _Series(
                cancelled=self._cancelled.labels(*key),
                bytes_in=self._bytes_in.labels(*key),
                bytes_out=self._bytes_out.labels(*key),
                ttft=self._ttft.labels(*key),
                duration=self._duration.labels(*key),
            )
        return self._series[key]

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"corral_gateway_{name}", text, (*_LABELS, *labels), registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"corral_gateway_{name}", text, _LABELS, registry=self.registry, buckets=buckets)


@dataclass(frozen=True, slots=True)
class _Series:
    """What is counted for one model and route: finding it by its labels costs more than counting does."""

    cancelled: Counter
    bytes_in: Counter
    bytes_out: Counter
    ttft: Histogram
    duration: Histogram
