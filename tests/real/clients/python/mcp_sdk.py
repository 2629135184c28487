"""The MCP SDK's client, over each of its HTTP transports.

Each reader returns what a user's code would get.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from real.clients.protocols import INTERVAL, LIMIT, LONG

HUNG: Final = 20.0
"""Seconds after which any call counts as lost."""


async def _count(client: Client) -> list[Any]:
    got: list[Any] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        got.append([done, total, message])

    result = await client.call_tool("count", progress_callback=progress)
    return [*got, result.model_dump(mode="json")["content"]]


async def http(url: str) -> AsyncIterator[Any]:
    async with Client(url, read_timeout_seconds=HUNG) as client:
        for item in await _count(client):
            yield item


async def http_session(url: str) -> AsyncIterator[Any]:
    async with Client(url, mode="legacy", read_timeout_seconds=HUNG) as client:
        for item in await _count(client):
            yield item


async def sse(url: str) -> AsyncIterator[Any]:
    async with Client(sse_client(url), mode="legacy", read_timeout_seconds=HUNG) as client:
        for item in await _count(client):
            yield item


async def timer(url: str) -> AsyncIterator[Any]:
    async with Client(url, mode="legacy") as client:
        result = await client.call_tool("sleep", {"seconds": LONG}, read_timeout_seconds=LIMIT)
        yield result.model_dump(mode="json")["content"]


async def kind(url: str) -> AsyncIterator[str]:
    """Return the answer to a call that reports nothing."""
    kinds: list[str] = []

    async def note(response: httpx2.Response) -> None:
        if b"tools/call" in response.request.content:
            kinds.append(response.headers["content-type"])

    for mode in ("auto", "legacy"):
        async with (
            httpx2.AsyncClient(event_hooks={"response": [note]}, timeout=HUNG) as http_client,
            Client(streamable_http_client(url, http_client=http_client), mode=mode) as client,
        ):
            await client.call_tool("sleep", {"seconds": 4 * INTERVAL})
    for each in kinds:
        yield each


READERS: Final = {
    "http": http,
    "http-session": http_session,
    "sse": sse,
    "timer": timer,
    "kind": kind,
}
