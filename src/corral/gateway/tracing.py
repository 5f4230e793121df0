"""Traces of requests by OpenTelemetry, where the extra `corral[otel]` is installed and an exporter is configured.

Names are those of OpenTelemetry's semantic conventions for HTTP servers and generative AI (version 1.37). No prompt
and no answer stands in a span. Exporter, sampling and resource come from the usual OTEL_* variables.
"""

import importlib.util
import logging
import os
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Final, Protocol

from corral.gateway.record import Record

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_logger: Final = logging.getLogger("corral.gateway")
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}

End = Callable[[Record], None]


class Tracing(Protocol):
    """Begins a span for a request."""

    def begin(self, route: str, headers: MutableMapping[bytes, bytes]) -> End:
        """Begin; the request's `traceparent` is replaced by this span's, for the engine. Call the result at its end."""
        ...

    def close(self) -> None:
        """Send what has not been sent."""
        ...


def tracing_from_environment() -> Tracing | None:
    """Tracing, if OTEL_EXPORTER_OTLP_ENDPOINT is set (and OTEL_SDK_DISABLED is not); None else."""
    if not any(os.environ.get(name) for name in _ENDPOINTS) or os.environ.get("OTEL_SDK_DISABLED") == "true":
        return None
    if importlib.util.find_spec("opentelemetry") is None:
        _logger.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but traces need `pip install 'corral[otel]'`")
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra

    return OpenTelemetry(OTLPSpanExporter())


class OpenTelemetry:
    """Spans in batches, from a thread of the SDK's own."""

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - as above
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - as above
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 - as above

        name = os.environ.get("OTEL_SERVICE_NAME", "corral")
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("corral.gateway")
        self._context = TraceContextTextMapPropagator()

    def begin(self, route: str, headers: MutableMapping[bytes, bytes]) -> End:
        """Begin a span; the request's `traceparent` is replaced by this span's."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context  # noqa: PLC0415 - an extra

        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        operation = _OPERATIONS.get(route, route.removeprefix("/v1/"))
        started = time.time_ns()
        span = self._tracer.start_span(
            operation, context=self._context.extract(carrier), kind=SpanKind.SERVER, start_time=started
        )
        inject: dict[str, str] = {}
        self._context.inject(inject, context=set_span_in_context(span))
        headers.update({name.encode(): value.encode() for name, value in inject.items()})

        def end(record: Record) -> None:
            span.update_name(f"{operation} {record.model}".rstrip())
            for name, value in _attributes(operation, record).items():
                span.set_attribute(name, value)
            if record.first_token is not None:
                span.add_event("gen_ai.first_token", timestamp=started + int(record.first_token * 1e9))
            if record.status >= 500 or record.code:
                span.set_status(Status(StatusCode.ERROR if record.status >= 500 else StatusCode.UNSET))
            span.end()

        return end

    def close(self) -> None:
        """Send what has not been sent."""
        self._provider.shutdown()


def _attributes(operation: str, record: Record) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "corral",
        "gen_ai.request.model": record.model,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "http.request.method": record.method,
        "http.route": record.route,
        "http.response.status_code": record.status,
        "error.type": record.code,
        "corral.replica": record.replica,
        "corral.key": record.key,
        "corral.queue_seconds": record.waited,
        "corral.cached_tokens": record.cached_tokens,
        "corral.tries": record.tries,
        "corral.cancelled": record.cancelled,
    }
    return {name: value for name, value in found.items() if value not in {"", 0}}
