"""The how-to about restarts of an MCP server: which calls are lost, and which are not."""

import asyncio
import re
import signal
from collections.abc import Callable

import pytest
from real.docs.how_tos import HowTo
from real.processes import PATIENCE

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.parts]

PAGE = HowTo("mcp-restarts")
SHORT = {"max_lifetime=600.0": "max_lifetime=1.0"}
NO_STORE = {"event_store=Events(), ": ""}
COMMAND = "uvicorn main:app"


async def call(
    url: str, documents: int, after: float = 0, act: Callable[[], None] = lambda: None
) -> str:
    """Call the tool with the SDK's client, and return its result or its error."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    try:
        async with (
            asyncio.timeout(20),
            streamable_http_client(url) as (reader, writer, *_),
            ClientSession(reader, writer) as session,
        ):
            await session.initialize()
            asyncio.get_running_loop().call_later(after, act)
            result = await session.call_tool("index", {"documents": documents})
            return result.content[0].text
    except BaseExceptionGroup as group:
        error = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return f"{type(error).__name__}: {error}"


def results(section: str) -> list[tuple[str, str]]:
    """Return the rows of a section's table: whether there is a store, and the result."""
    _, _, text = PAGE.text.partition(f"\n## {section}\n")
    rows = re.findall(r"^\| (yes|no) \| `(.+)` \|$", text.partition("\n## ")[0], re.MULTILINE)
    assert [store for store, _ in rows] == ["yes", "no"]
    return rows


@pytest.mark.parametrize(
    ("store", "result"), results("End streams before something else does")
)
def test_a_call_outlives_its_stream_if_there_is_an_event_store(tmp_path, store, result):
    PAGE.need()
    changes = SHORT if store == "yes" else SHORT | NO_STORE
    with PAGE.running(tmp_path, changes, COMMAND) as process:
        assert asyncio.run(call(process.url("/mcp"), 4)) == result


@pytest.mark.parametrize(("store", "result"), results("Stop a process"))
def test_a_sigterm_loses_the_calls_that_are_being_served(tmp_path, store, result):
    """Also one that would be finished within the drain."""
    PAGE.need()
    options = "on_shutdown=on_signals(signal.SIGTERM), drain=10.0"
    changes = {
        "max_lifetime=600.0": options,
        "import KeepaliveMiddleware": "import KeepaliveMiddleware, on_signals",
        "import asyncio\n\n": "import asyncio, signal\n\n",
    }
    changes |= {} if store == "yes" else NO_STORE
    with PAGE.running(tmp_path, changes, COMMAND) as process:

        def stop() -> None:
            process.process.send_signal(signal.SIGTERM)

        assert asyncio.run(call(process.url("/mcp"), 4, 1.0, stop)) == result
        assert process.gone_within(PATIENCE)
