"""starlette-context around an app."""

from functools import partial

from real.frameworks import around
from starlette_context import context
from starlette_context.middleware import RawContextMiddleware
from starlette_context.plugins import RequestIdPlugin
from support.internals import ASGIApp


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds the request's id in its context."""
    return around.variants(
        lambda: around.starlette_app(lambda _: context["X-Request-ID"]),
        partial(RawContextMiddleware, plugins=[RequestIdPlugin()]),
    )
