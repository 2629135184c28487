"""What a client of MCP's streamable HTTP sends, as plain requests.

The SDK's own client is not used, so that nothing is retried or hidden.
"""

import uuid
from contextlib import closing
from typing import Any, Final

from real.frameworks.reading import Reading, Served

PATH: Final = "/mcp"
VERSION: Final = "2025-06-18"
NEWER: Final = "2026-07-28"
HEADERS: Final = {
    "Accept": "application/json, text/event-stream",
    "Content-Type": "application/json",
}


def message(method: str, number: int | None = None, **params: Any) -> dict[str, Any]:
    """Return a message; a notification if it has no number."""
    found = {"jsonrpc": "2.0", "method": method, "params": params}
    return found if number is None else found | {"id": number}


def session(server: Served, variant: str) -> dict[str, str]:
    """Begin a session, and return its headers."""
    hello = message(
        "initialize",
        1,
        protocolVersion=VERSION,
        capabilities={},
        clientInfo={"name": "tests", "version": "0"},
    )
    with closing(Reading(server, variant, PATH, HEADERS, hello)) as made:
        made.read()
        number = made.response.getheader("Mcp-Session-Id") or ""
    return HEADERS | {"Mcp-Session-Id": number, "Mcp-Protocol-Version": VERSION}


def ask(server: Served, variant: str, path: str) -> Reading:
    """Ask for what the other apps have at these paths."""
    headers, token = session(server, variant), uuid.uuid4().hex
    if path == "/whole":
        ready = message("notifications/initialized")
        return Reading(server, variant, PATH, headers, ready, token)
    meta = {"progressToken": 1}
    call = message("tools/call", 2, name="slow", arguments={"token": token}, _meta=meta)
    return Reading(server, variant, PATH, headers, call, token)


def metadata(version: str = NEWER) -> dict[str, object]:
    """Return what every call of a protocol without sessions says of its client."""
    own = "io.modelcontextprotocol/"
    return {
        "progressToken": 1,
        f"{own}protocolVersion": version,
        f"{own}clientInfo": {"name": "tests", "version": "0"},
        f"{own}clientCapabilities": {},
    }


def ask_without_session(server: Served, variant: str, path: str) -> Reading:
    """Ask for the same by the newer protocol, which has no sessions."""
    headers, token = HEADERS | {"Mcp-Protocol-Version": NEWER}, uuid.uuid4().hex
    if path == "/whole":
        headers |= {"Mcp-Method": "notifications/cancelled"}
        note = message("notifications/cancelled", requestId=1)
        return Reading(server, variant, PATH, headers, note, token)
    headers |= {"Mcp-Method": "tools/call", "Mcp-Name": "slow"}
    arguments = {"token": token}
    call = message("tools/call", 2, name="slow", arguments=arguments, _meta=metadata())
    return Reading(server, variant, PATH, headers, call, token)


def standalone(server: Served, variant: str) -> Reading:
    """Open the stream on which a server may speak first."""
    return Reading(server, variant, PATH, session(server, variant))
