"""The how-to about MCP servers: which calls outlive an idle timeout from their start on.

The timeout is that of the SDK's own client: it gives up if no byte arrives for a second.
"""

import asyncio
import re

import pytest
from real.docs.how_tos import HowTo

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.parts]

PAGE = HowTo("mcp")
IDLE_TIMEOUT = 1.0
STARTED_AS_EVENTS = "start_after=0.3, start_as='text/event-stream'"


def as_json() -> dict[str, str]:
    """Return the changes to the page's program that make it respond with JSON, as it says."""
    (block,) = re.findall(r"```text\n(app = .*?)```", PAGE.text, re.DOTALL)
    (before,) = re.findall(r"^app = .*\napp\.add_middleware\(.+\n", PAGE.text, re.MULTILINE)
    return {before: block, "interval=5.0, start_after=5.0": "interval=0.3, start_after=0.3"}


async def call(url: str, *, asks_for_progress: bool) -> str:
    """Call the tool with the SDK's client, and return its result or its error."""
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    reports = []

    async def on_progress(*report: object) -> None:
        reports.append(report)

    options = {"progress_callback": on_progress} if asks_for_progress else {}
    timeout = httpx2.Timeout(20, read=IDLE_TIMEOUT)
    try:
        async with (
            asyncio.timeout(30),
            httpx2.AsyncClient(timeout=timeout) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool("think", **options)
            return result.content[0].text + (", reported" if reports else "")
    except BaseExceptionGroup as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return type(error).__name__
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("configuration", "asks", "found"),
    [
        ("as above", True, "42, reported"),
        ("as above", False, "ReadTimeout"),
        ("started early", False, "MCPError"),
        ("json", True, "42"),
        ("json", False, "42"),
    ],
)
def test_which_calls_outlive_an_idle_timeout(tmp_path, configuration, asks, found):
    PAGE.need()
    changes = {
        "as above": {"interval=5.0": "interval=0.3"},
        "started early": {"interval=5.0": f"interval=0.3, {STARTED_AS_EVENTS}"},
        "json": as_json(),
    }[configuration]
    with PAGE.running(tmp_path, changes | {"sleep(60)": "sleep(4)"}) as process:
        assert asyncio.run(call(process.url("/mcp"), asks_for_progress=asks)) == found
