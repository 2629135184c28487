"""Ariadne's ASGI app, with a subscription over SSE.

What it serves is defined in `streams`; this is how the framework's users write it.
"""

from collections.abc import AsyncIterator

from ariadne import QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLHTTPHandler
from ariadne.contrib.sse import SSESubscriptionHandler
from real.frameworks.around import ENDING
from real.frameworks.streams import EVENTS, OPTIONS, WHOLE, paced
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware

SCHEMA = "type Query { answer: String! } type Subscription { name: String! }"


def app() -> GraphQL:
    """Return the app."""
    query, subscription = QueryType(), SubscriptionType()

    @query.field("answer")
    def answer(*_: object) -> str:
        return WHOLE["answer"]

    @subscription.source("name")
    async def names(*_: object) -> AsyncIterator[str]:
        async for name in paced(EVENTS):
            yield name

    @subscription.field("name")
    def name(name: str, *_: object) -> str:
        return name

    handler = GraphQLHTTPHandler(subscription_handlers=[SSESubscriptionHandler()])
    schema = make_executable_schema(SCHEMA, query, subscription)
    return GraphQL(schema, http_handler=handler)


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with its streams ended."""
    return {
        "plain": app(),
        "kept": KeepaliveMiddleware(app(), **OPTIONS),
        "ended": KeepaliveMiddleware(app(), **ENDING),
    }


ALIVE: tuple[str, ...] = ()
"""It has no lifespan."""
