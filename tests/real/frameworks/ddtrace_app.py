"""Datadog's ddtrace around an app, with a filter that writes spans down and lets none out."""

import os

os.environ |= {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED": "true",
}

from ddtrace.contrib.asgi import TraceMiddleware
from ddtrace.trace import Span, TraceFilter, tracer
from real.frameworks import around
from real.frameworks.streams import note
from starlette.requests import Request
from support.internals import ASGIApp


class Journal(TraceFilter):
    """Writes spans down, and the errors that they report."""

    def process_trace(self, trace: list[Span]) -> list[Span] | None:
        """Record the spans of a trace, and return what is to be sent."""
        for span in trace:
            trace_id = format(span.trace_id, "032x")
            note("span", trace_id, name=span.name)
            if span.error:
                note("reported", trace_id, what=span.get_tag("error.message"))
        return None


def found(_: Request) -> str | None:
    """Return the id of the current trace."""
    span = tracer.current_span()
    return span and format(span.trace_id, "032x")


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds its request's trace."""
    tracer.configure(trace_processors=[Journal()])
    return around.variants(lambda: around.starlette_app(found), TraceMiddleware)
