"""Starlette's `BaseHTTPMiddleware` around an app."""

from contextvars import ContextVar
from typing import Final

from real.frameworks import around
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from support.internals import ASGIApp

REQUEST_ID: Final[ContextVar[str]] = ContextVar("REQUEST_ID")


class Named(BaseHTTPMiddleware):
    """Puts the request's id into the context, and into the state."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Serve a request."""
        request.state.request_id = request.headers["x-request-id"]
        REQUEST_ID.set(request.headers["x-request-id"])
        return await call_next(request)


def found(request: Request) -> str:
    """Return the request's id, which is the same in both places."""
    assert REQUEST_ID.get() == request.state.request_id
    return REQUEST_ID.get()


def variants() -> dict[str, ASGIApp]:
    """Return the app, which finds the request's id."""
    return around.variants(lambda: around.starlette_app(found), Named)
