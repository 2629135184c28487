"""Strawberry's ASGI app, with a subscription over SSE.

What it serves is defined in `streams`; this is how the framework's users write it.
"""

from collections.abc import AsyncGenerator

import strawberry
from real.frameworks.around import ENDING
from real.frameworks.streams import EVENTS, OPTIONS, WHOLE, paced
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


@strawberry.type
class Query:
    """What can be asked for."""

    @strawberry.field
    def answer(self) -> str:
        """Answer at once."""
        return WHOLE["answer"]


@strawberry.type
class Subscription:
    """What can be subscribed to."""

    @strawberry.subscription
    async def name(self) -> AsyncGenerator[str, None]:
        """Stream names."""
        async for name in paced(EVENTS):
            yield name


def app() -> ASGIApp:
    """Return the app."""
    schema = strawberry.Schema(Query, subscription=Subscription)
    return GraphQL(schema, subscription_protocols=[GRAPHQL_SSE_PROTOCOL])


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with its streams ended."""
    return {
        "plain": app(),
        "kept": KeepaliveMiddleware(app(), **OPTIONS),
        "ended": KeepaliveMiddleware(app(), **ENDING),
    }


ALIVE: tuple[str, ...] = ()
"""It has no lifespan."""
