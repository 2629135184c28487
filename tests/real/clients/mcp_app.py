"""The MCP SDK's own server, in all deliveries: its streamable HTTP app and its SSE app.

The deliveries are those of `protocols`.
"""

import asyncio
from typing import Final

from mcp.server.mcpserver import Context, MCPServer
from real.clients.protocols import delivered, quiet
from support.internals import Receive, Scope, Send

server: Final = MCPServer("silent")


@server.tool()
async def count(ctx: Context) -> str:
    """Report two steps, and be silent behind each of them.

    Not before the first: a server that speaks the protocol of 2026-07-28 starts its response
    with the first report, or 15 seconds after the call.
    """
    for step in (1, 2):
        await ctx.report_progress(step, 2)
        await quiet(ctx.request_context.request.scope)
    return "counted"


@server.tool()
async def sleep(seconds: float) -> str:
    """Say nothing for a while."""
    await asyncio.sleep(seconds)
    return "slept"


http: Final = server.streamable_http_app()
sse: Final = server.sse_app()


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the transport that the path names; lifespan is the streamable one's."""
    path = scope.get("path", "/mcp").removeprefix(scope.get("root_path", ""))
    app = http if path.startswith("/mcp") else sse
    await app(scope, receive, send)


application: Final = delivered(router)
