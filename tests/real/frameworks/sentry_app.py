"""Sentry around an app, with a transport that writes down what is reported."""

import sentry_sdk
from real.frameworks import around
from real.frameworks.streams import note
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.transport import Transport
from starlette.requests import Request
from support.internals import ASGIApp


class Journal(Transport):
    """Writes down transactions and reports."""

    def capture_envelope(self, envelope: Envelope) -> None:
        """Record what would be sent to the server."""
        for item in envelope.items:
            content = item.payload.json or {}
            trace = content.get("contexts", {}).get("trace", {})
            if item.type == "transaction":
                note("span", trace["trace_id"], name=content["transaction"])
            if item.type != "transaction" or trace.get("status", "ok") != "ok":
                note("reported", trace.get("trace_id"), what=content)


def found(_: Request) -> str | None:
    """Return the id of the current trace."""
    span = sentry_sdk.get_current_span()
    return span and span.trace_id


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds its request's trace."""
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Journal,
        traces_sample_rate=1.0,
        auto_session_tracking=False,
    )
    return around.variants(lambda: around.starlette_app(found), SentryAsgiMiddleware)
