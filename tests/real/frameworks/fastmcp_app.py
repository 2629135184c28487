"""FastMCP's `http_app`, with a tool that takes long.

What it serves is defined in `streams`; this is how the framework's users write it.
"""

from fastmcp import Context, FastMCP
from real.frameworks.around import ENDING
from real.frameworks.streams import EVENTS, OPTIONS, paced
from starlette.middleware import Middleware
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


def app(*middleware: Middleware) -> ASGIApp:
    """Return the app."""
    server = FastMCP("tests")

    @server.tool
    async def slow(token: str, ctx: Context) -> str:
        """Report progress, silent before and after."""
        async for _ in paced(EVENTS[:1], token):
            await ctx.report_progress(1, 2)
        return "done"

    return server.http_app(middleware=list(middleware))


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with its streams ended."""
    return {
        "plain": app(),
        "kept": app(Middleware(KeepaliveMiddleware, **OPTIONS)),
        "ended": app(Middleware(KeepaliveMiddleware, **ENDING)),
    }
