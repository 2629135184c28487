"""hypercorn's `ProxyFixMiddleware` around an app."""

from functools import partial

from hypercorn.middleware import ProxyFixMiddleware
from real.frameworks import around
from support.internals import ASGIApp


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds the client that a proxy has named."""
    return around.variants(
        lambda: around.starlette_app(lambda request: request.client and request.client.host),
        partial(ProxyFixMiddleware, mode="legacy", trusted_hops=1),
    )
