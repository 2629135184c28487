"""What is taken of a framework's app: whole streams, and streams that the client leaves."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from real.frameworks.cases import (
    AFTER_BACKGROUND,
    AT_NEXT_EVENT,
    IN_SILENCE,
    NEVER,
    Case,
)
from real.frameworks.mcp_client import standalone
from real.frameworks.reading import Reading, Served
from real.frameworks.streams import INTERVAL

PLAIN: Final = "plain"
LULL: Final = 3 * INTERVAL


@dataclass(frozen=True)
class Taken:
    """What came of one request; `raw` as it came, `body` decompressed."""

    status: int
    headers: dict[str, str]
    raw: bytes
    body: bytes
    app_bytes: bytes
    pings: int
    facts: list[dict[str, Any]]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the facts of some kinds."""
        return [fact for fact in self.facts if fact["kind"] in kinds]


def taken(made: Reading) -> Taken:
    """Return what has come."""
    facts = made.server.facts(made.token)
    return Taken(
        status=made.response.status,
        headers=made.headers,
        raw=bytes(made.raw),
        body=made.body,
        app_bytes=made.app_bytes,
        pings=made.pings,
        facts=facts,
    )


def keep_silent(case: Case, made: Reading, variant: str, number: int) -> None:
    """Read two pings; plain, or where there are none yet, see that nothing comes."""
    begun = bool(case.opening or number)
    if begun:
        assert made.response.status == 200
    if variant == PLAIN or not begun:
        assert made.is_quiet_for(LULL), "who broke the silence?"
    else:
        made.read_pings(2)


def whole_stream(case: Case, server: Served, variant: str, path: str) -> Taken:
    """Read a stream to its end, silence by silence."""
    with closing(case.ask(server, variant, path)) as made:
        for number in range(case.items):
            keep_silent(case, made, variant, number)
            server.open(made.token)
            made.read_item()
        keep_silent(case, made, variant, case.items)
        server.open(made.token)
        made.read()
        # The client has the end of the stream though the task behind it isn't through.
        assert not server.of(made.token, "background ran") or case.name == "django"
        server.open_background(made.token)
        server.wait(made.token, "over")
        server.wait(made.token, "call over")
        if case.background and path == "/events":
            server.wait(made.token, "background ran")
        return taken(made)


def no_stream(case: Case, server: Served, variant: str) -> Taken:
    """Read a response that is no stream."""
    with closing(case.ask(server, variant, "/whole")) as made:
        made.read()
        server.wait(made.token, "call over")
        return taken(made)


def left_stream(case: Case, server: Served, variant: str) -> Taken:
    """Leave in the silence behind the first event."""
    with closing(case.ask(server, variant, "/events")) as made:
        server.open(made.token)
        made.read_item()
        if variant != PLAIN:
            made.read_pings(2)
        server.wait(made.token, "silent", 2)
    server.wait(made.token, "client gone")
    if variant != PLAIN:
        server.wait(made.token, "StreamEnded")
    _see_it_through(case, server, made.token)
    return taken(made)


def _see_it_through(case: Case, server: Served, token: str) -> None:
    """Wait for all that the app does when its client has left."""
    if case.notices == IN_SILENCE:
        server.wait(token, "over")
    elif case.notices == AT_NEXT_EVENT:
        assert not server.of(token, "over"), "it has noticed in the silence"
        server.open(token)
    elif case.notices == NEVER:
        server.open(token, case.items)
    else:
        assert case.notices == AFTER_BACKGROUND
    server.open_background(token)
    server.wait(token, "over")
    server.wait(token, "call over")
    if case.background:
        server.wait(token, "background ran")


def left_listener(case: Case, server: Served) -> Taken:
    """Leave an app that listens to its stream's signal, and open no gate behind it."""
    with closing(Reading(server, "kept", "/attentive")) as made:
        server.open(made.token)
        made.read_item()
        made.read_pings(2)
        server.wait(made.token, "silent", 2)
    server.wait(made.token, "over")
    server.wait(made.token, "call over")
    return taken(made)


def left_standalone(server: Served, variant: str) -> Taken:
    """Leave the stream on which an MCP server may speak first, and has nothing to say."""
    with closing(standalone(server, variant)) as made:
        assert made.response.status == 200
        if variant == PLAIN:
            assert made.is_quiet_for(LULL)
        else:
            made.read_pings(2)
    server.wait(made.token, "call over")
    return taken(made)
