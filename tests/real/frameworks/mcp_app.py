"""The MCP Python SDK's `streamable_http_app`, with a tool that takes long.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from mcp.server.mcpserver import Context, MCPServer
from real.frameworks.streams import EVENTS, OPTIONS, paced
from starlette.applications import Starlette
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


def app() -> Starlette:
    """Return the app."""
    server = MCPServer("tests")

    @server.tool()
    async def slow(token: str, ctx: Context) -> str:
        """Report progress, silent before and after."""
        async for _ in paced(EVENTS[:1], token):
            await ctx.report_progress(1, 2)
        return "done"

    return server.streamable_http_app()


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    kept = app()
    kept.add_middleware(KeepaliveMiddleware, **OPTIONS)
    return {"plain": app(), "kept": kept}
