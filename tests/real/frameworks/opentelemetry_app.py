"""OpenTelemetry's instrumentation around an app, with an exporter that writes spans down."""

from collections.abc import Sequence
from functools import partial

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from real.frameworks import around
from real.frameworks.streams import note
from starlette.requests import Request
from support.internals import ASGIApp


class Exporter(SpanExporter):
    """Writes spans down, and the errors that they report."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Record spans that have ended."""
        for span in spans:
            trace_id = format(span.context.trace_id, "032x")
            note("span", trace_id, name=span.name)
            if not span.status.is_ok and not span.status.is_unset:
                note("reported", trace_id, what=span.status.description)
            for event in span.events:
                note("reported", trace_id, what=event.name)
        return SpanExportResult.SUCCESS


def found(_: Request) -> str:
    """Return the id of the current trace."""
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds its request's trace."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Exporter()))
    instrumented = partial(
        OpenTelemetryMiddleware, tracer_provider=provider, exclude_spans=["send", "receive"]
    )
    return around.variants(lambda: around.starlette_app(found), instrumented)
