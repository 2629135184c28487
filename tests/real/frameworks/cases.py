"""The frameworks that are tried, and what each is known to do by itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from real.frameworks import graphql_client, mcp_client
from real.frameworks.reading import Reading, Served
from real.frameworks.streams import WHOLE

IN_SILENCE: Final = "in the silence"
AFTER_BACKGROUND: Final = "when its background tasks are through"
AT_NEXT_EVENT: Final = "at its next event"
NEVER: Final = "never"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A framework.

    Attributes:
        name: Of the module with its app, less `_app`.
        title: What its row is called.
        parts: What it is made of; its own first.
        also: What its module needs for other tests.
        opening: Pings in the silence before the first event; 0 where the framework holds the
            response's start back until then.
        items: Events that its app sends between silences.
        notices: When its generator learns that the client has left.
        background: Whether it has something for after the response.
        records: Whether it has another kind of stream, of records.
        events: How many are read of its stream.
        whole: What its response is that is no stream.
        logs: What it warns of by itself when a client leaves.
        ask: Sends a request.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    also: tuple[str, ...] = ()
    opening: int = 2
    items: int = 2
    notices: str = IN_SILENCE
    background: bool = True
    records: bool = True
    events: int = 2
    whole: object = field(default_factory=lambda: WHOLE, compare=False)
    logs: str | None = None
    ask: Callable[[Served, str, str], Reading] = Reading

    @property
    def used(self) -> tuple[str, ...]:
        """What it is tried with."""
        return (*self.parts, "uvicorn")

    @property
    def needed(self) -> tuple[str, ...]:
        """What must be here for it to be tried."""
        return (*self.used, *self.also)


CASES: Final = (
    Case(
        name="starlette",
        title="Starlette",
        parts=("starlette",),
        also=("starlette-compress",),
    ),
    Case(name="fastapi", title="FastAPI, `StreamingResponse`", parts=("fastapi", "starlette")),
    Case(
        name="fastapi_native",
        title="FastAPI, `EventSourceResponse`",
        parts=("fastapi", "starlette"),
        notices=AFTER_BACKGROUND,
    ),
    Case(
        name="sse_starlette",
        title="sse-starlette",
        parts=("sse-starlette", "starlette"),
        records=False,
    ),
    Case(name="litestar", title="Litestar", parts=("litestar",)),
    Case(name="quart", title="Quart", parts=("quart",)),
    Case(name="django", title="Django", parts=("django",)),
    Case(name="falcon", title="Falcon", parts=("falcon",), notices=AT_NEXT_EVENT),
    Case(
        name="blacksheep",
        title="BlackSheep",
        parts=("blacksheep",),
        notices=NEVER,
        background=False,
    ),
    Case(name="sanic", title="Sanic", parts=("sanic",), opening=0, notices=NEVER),
    Case(
        name="mcp",
        title=f"MCP Python SDK, protocol {mcp_client.VERSION}",
        parts=("mcp", "starlette"),
        items=1,
        notices=NEVER,
        background=False,
        records=False,
        whole=None,
        ask=mcp_client.ask,
    ),
    Case(
        name="mcp",
        title=f"MCP Python SDK, protocol {mcp_client.NEWER}",
        parts=("mcp", "starlette"),
        opening=0,
        items=1,
        background=False,
        records=False,
        whole=None,
        ask=mcp_client.ask_without_session,
    ),
    Case(
        name="fastmcp",
        title=f"FastMCP, protocol {mcp_client.VERSION}",
        parts=("fastmcp", "mcp", "starlette"),
        items=1,
        notices=NEVER,
        background=False,
        records=False,
        whole=None,
        ask=mcp_client.ask,
    ),
    Case(
        name="strawberry",
        title="Strawberry, GraphQL over SSE",
        parts=("strawberry-graphql", "starlette"),
        background=False,
        records=False,
        events=3,
        whole={"data": WHOLE},
        ask=graphql_client.ask,
    ),
    Case(
        name="ariadne",
        title="Ariadne, GraphQL over SSE",
        parts=("ariadne", "starlette"),
        logs="Cancelled via cancel scope",
        background=False,
        records=False,
        events=3,
        whole={"data": WHOLE},
        ask=graphql_client.ask,
    ),
    Case(
        name="a2wsgi",
        title="a2wsgi, `WSGIMiddleware`",
        parts=("a2wsgi",),
        notices=NEVER,
        background=False,
    ),
)
