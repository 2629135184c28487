"""Streams of other projects' apps that the middleware ends: nothing is logged, none hangs."""

from contextlib import closing

import pytest
from real.frameworks.cases import CASES
from real.frameworks.measuring import taken
from real.frameworks.reading import serving
from real.http_clients import complaints, parsed
from real.parts import missing, need

pytestmark = [pytest.mark.real, pytest.mark.parts]

ENDED = [case for case in CASES if case.name in {"fastmcp", "strawberry", "ariadne", "a2wsgi"}]
THREADS = 10
"""How many a2wsgi has by default."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    here = [case.name for case in ENDED if not missing(*case.needed)]
    with serving(here, tmp_path_factory.mktemp("ends")) as running:
        yield running


def read_to_the_end(case, server):
    """Read a stream that the middleware ends in a silence; the app goes on, and may send."""
    with closing(case.ask(server, "ended", "/events")) as made:
        server.open(made.token)
        made.read()
        server.open(made.token, case.items)
        server.wait(made.token, "over")
        server.wait(made.token, "call over")
        return taken(made)


@pytest.mark.parametrize("case", ENDED, ids=lambda case: case.title)
def test_an_end_by_the_middleware_is_clean(servers, case):
    need(*case.needed)
    server = servers[case.name]
    for _ in range(THREADS + 2):
        found = read_to_the_end(case, server)
        assert parsed(found.body)[-1][0] == "stopping"
        assert [end["reason"] for end in found.of("StreamEnded")] == ["max_lifetime"]
        assert [fact["how"] for fact in found.of("call over")] == ["returned"]
    own = [line for line in complaints(server.process.log) if case.logs and case.logs in line]
    assert complaints(server.process.log) == own
