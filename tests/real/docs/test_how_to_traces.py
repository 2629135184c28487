"""The how-to about traces, with the real libraries: why it does what it does."""

import logging
import re

import anyio
import pytest
from real import parts
from real.processes import EXAMPLES

from keepalive import AbortController, KeepaliveMiddleware, Ping
from keepalive.testing import timeline

pytestmark = [pytest.mark.real, pytest.mark.parts]

PAGE = EXAMPLES.parent / "how-to" / "traces.md"


@pytest.fixture(autouse=True)
def _libraries():
    parts.need("opentelemetry-sdk", "opentelemetry-instrumentation-asgi")


@pytest.fixture
def page():
    """What the page's first block defines."""
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    exec(block[1], names)
    return names


class Tracing:
    """OpenTelemetry around an app, and the spans that it has made of it, latest last."""

    def __init__(self, page):
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import (
            InMemorySpanExporter,
        )

        self._spans = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._spans))
        page["tracer"] = self.provider.get_tracer("test")

    def around(self, app, **options):
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        return OpenTelemetryMiddleware(app, tracer_provider=self.provider, **options)

    @property
    def spans(self):
        return sorted(self._spans.get_finished_spans(), key=lambda span: span.start_time)


@pytest.fixture
def tracing(page):
    return Tracing(page)


QUIET = {"exclude_spans": ["send", "receive"]}


async def app(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await anyio.sleep(float(scope["query_string"]))
    await send({"type": "http.response.body", "body": b"data: 42\n\n"})


def names(span):
    return [event.name for event in span.events]


@pytest.mark.parametrize(
    ("path", "reason", "pings"),
    [("/?40", "completed", 2), ("/?3600", "disconnected", 3), ("/abort?3600", "aborted", 1)],
)
def test_the_facts_of_a_stream_are_on_its_span(page, tracing, caplog, path, reason, pings):
    evening = AbortController()

    async def kept(scope, receive, send):
        abort = evening.signal if scope["path"] == "/abort" else None
        options = {"abort": abort, "drain": 2, "farewell": Ping.event("bye")}
        await KeepaliveMiddleware(app, observer=page["observe"], **options)(
            scope, receive, send
        )

    traced = page["Traced"](app)
    traced.app = kept
    timeline(tracing.around(traced, **QUIET), path, at={20: evening.abort})
    request, stream = tracing.spans
    assert stream.parent.span_id == request.context.span_id
    assert names(stream) == ["ping"] * pings + ["stream ended"]
    assert stream.attributes["stream.reason"] == reason
    assert stream.attributes["stream.pings"] == pings
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_without_a_span_of_ones_own_the_end_of_a_whole_stream_is_lost(page, tracing):
    kept = KeepaliveMiddleware(app, observer=page["observe"])
    timeline(tracing.around(kept, **QUIET), "/?40")
    (request,) = tracing.spans
    assert names(request) == ["ping", "ping"]
    assert "stream.reason" not in request.attributes


def test_each_ping_gets_a_span_unless_those_for_sends_are_dropped(page, tracing):
    timeline(tracing.around(page["Traced"](app)), "/?40")
    sends = [span for span in tracing.spans if span.name.endswith("http send")]
    assert len(sends) == 4  # the start, two pings, the event


def test_a_span_keeps_its_latest_events_alone(page, tracing):
    timeline(tracing.around(page["Traced"](app), **QUIET), "/?3600", seconds=3000)
    _, stream = tracing.spans
    assert len(stream.events) == 128
    assert stream.events[0].attributes["count"] == 73
    assert stream.attributes["stream.pings"] == 199
