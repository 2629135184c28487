"""Frameworks that ping by themselves: never are there two pings for one silence of ours."""

from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

import pytest
from real.compatibility import BOOKS
from real.frameworks.reading import Reading, serving
from real.frameworks.streams import INTERVAL
from real.parts import missing, need
from real.processes import wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK = BOOKS["frameworks"]
TABLE = "own-pings"
LONGER, SHORTER, OFF = "longer `interval`", "shorter `interval`", "framework's pings disabled"
ITS_ALONE, BETWEEN, OURS_ALONE = "the framework's only", "both", "asgi-keepalive's only"

SSE_STARLETTE = ("sse_starlette", "sse-starlette", ("sse-starlette", "starlette", "uvicorn"))
FASTAPI = ("fastapi_pings", "FastAPI, `EventSourceResponse`", ("fastapi", "uvicorn"))

TOGETHER = INTERVAL / 2
"""Seconds between two messages that are too few for a ping to have been due in them."""

Sent = list[tuple[float, bool]]
"""When each ping was sent, and whether it was ours."""


class Case(NamedTuple):
    """One framework at one setting."""

    framework: tuple[str, str, tuple[str, ...]]
    column: str
    variant: str
    path: str
    found: str


CASES = [
    Case(SSE_STARLETTE, LONGER, "rarely", "/events?ping=0.05", ITS_ALONE),
    Case(SSE_STARLETTE, SHORTER, "kept", "/events?ping=0.16", BETWEEN),
    Case(SSE_STARLETTE, OFF, "kept", "/events?ping=0", OURS_ALONE),
    Case(FASTAPI, LONGER, "rarely", "/events", ITS_ALONE),
    Case(FASTAPI, SHORTER, "kept", "/events", BETWEEN),
]
FRAMEWORKS = (SSE_STARLETTE, FASTAPI)

ENOUGH: dict[str, Callable[[int, int], bool]] = {
    ITS_ALONE: lambda ours, its: its >= 5,
    BETWEEN: lambda ours, its: ours >= 4 and its >= 2,
    OURS_ALONE: lambda ours, its: ours >= 5,
}
"""How many pings of either kind are enough to judge by."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The frameworks' processes, started at the same time."""
    here = [framework for framework in FRAMEWORKS if not missing(*framework[2])]
    names = [name for name, *_ in here]
    with serving(names, tmp_path_factory.mktemp("own-pings")) as running:
        yield {framework: running[framework[0]] for framework in here}


def sent_pings(server, token) -> Sent:
    """Return the pings that have been sent so far, in one silence."""
    facts = server.of(token, "sent")
    assert all(fact["body"].startswith((": ping", "event: ping")) for fact in facts)
    return [(fact["at"], fact["body"].startswith("event: ping")) for fact in facts]


def pings_until(server, variant, path, enough: Callable[[Sent], bool]) -> Sent:
    """Listen to a silence until enough pings have come, and leave."""
    with closing(Reading(server, variant, path, {"X-Timed": "yes"})) as made:
        wait_for(lambda: enough(sent_pings(server, made.token)), "pings")
    server.open_background(made.token)
    server.wait(made.token, "call over")
    return sent_pings(server, made.token)


def hasty(sent: Sent) -> list[float]:
    """Return the times from any ping to one of ours that were too short for it."""
    gaps = [(second - first, ours) for (first, _), (second, ours) in pairwise(sent)]
    return [gap for gap, ours in gaps if ours and gap < TOGETHER]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.framework[0]}-{case.found}")
def test_ours_come_only_when_its_own_do_not(servers, case):
    _, title, used = case.framework
    need(*used)

    def enough(sent: Sent) -> bool:
        ours = sum(one for _, one in sent)
        return ENOUGH[case.found](ours, len(sent) - ours)

    sent = pings_until(servers[case.framework], case.variant, case.path, enough)
    kinds = {ours for _, ours in sent}
    assert (
        kinds == {ITS_ALONE: {False}, BETWEEN: {False, True}, OURS_ALONE: {True}}[case.found]
    )
    assert hasty(sent) == []
    BOOK.hold(TABLE, title, case.column, case.found, *used)


def test_pings_that_ignore_others_would_be_seen(servers):
    """Steady pings come whatever else is sent; two by two, sooner or later."""
    need(*SSE_STARLETTE[2])
    server = servers[SSE_STARLETTE]
    assert hasty(pings_until(server, "steadily", "/events?ping=0.16", hasty))


def test_the_table_has_a_cell_for_each_test_and_no_other():
    assert BOOK.cells(TABLE) == {(case.framework[1], case.column) for case in CASES}
