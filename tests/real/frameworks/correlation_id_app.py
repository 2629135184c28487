"""asgi-correlation-id around an app."""

from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from real.frameworks import around
from support.internals import ASGIApp


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds the correlation id of its request."""
    return around.variants(
        lambda: around.starlette_app(lambda _: correlation_id.get()), CorrelationIdMiddleware
    )
