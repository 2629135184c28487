"""What a client of GraphQL over SSE sends, as plain requests: distinct connections."""

from typing import Final

from real.frameworks.reading import Reading, Served

HEADERS: Final = {"Accept": "text/event-stream", "Content-Type": "application/json"}


def ask(server: Served, variant: str, path: str) -> Reading:
    """Ask for what the other apps have at these paths."""
    if path == "/whole":
        headers = HEADERS | {"Accept": "application/json"}
        return Reading(server, variant, "/", headers, {"query": "{ answer }"})
    return Reading(server, variant, "/", HEADERS, {"query": "subscription { name }"})
