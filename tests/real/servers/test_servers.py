"""Streams on every server, HTTP/1.1 and HTTP/2, asyncio and trio: as without us, and alive.

The cases are in `stream_cases`; here each is run against each server, and compared with its
cell of `docs/servers.md`.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from real.compatibility import BOOKS
from real.parts import need
from real.servers.cases import Case
from real.servers.known_behaviour import HABITS, OF_HTTP_1
from real.servers.serving import FLAVOURS, serving, title
from real.servers.stream_cases import STREAMS, log_and_exit

pytestmark = [pytest.mark.real, pytest.mark.parts, pytest.mark.slow]

CASES = STREAMS | HABITS
TRIED = [
    (flavour, case)
    for flavour in FLAVOURS
    for case in CASES
    if not (flavour.http == "2" and case in OF_HTTP_1)
]
LAST = "logs and exit"
SERVERS_AT_A_TIME = 3
CASES_AT_A_TIME = 8


@pytest.fixture(scope="module")
def found(request, tmp_path_factory):
    """What was found on each server, in the cases of the selected tests."""
    folder = tmp_path_factory.mktemp("streams")
    chosen: dict[Case, list[str]] = {}
    for item in request.session.items:
        if item.path == request.path and "case" in getattr(item, "fixturenames", ()):
            parameters = item.callspec.params
            chosen.setdefault(parameters["flavour"], []).append(parameters["case"])
    with ThreadPoolExecutor(SERVERS_AT_A_TIME) as pool:
        yield {
            flavour: pool.submit(run, flavour, cases, folder / str(number))
            for number, (flavour, cases) in enumerate(chosen.items())
            if not flavour.missing()
        }


def run(flavour, cases, folder) -> dict[str, Future]:
    """Run a server's cases, most of them at the same time."""
    with serving(flavour, folder) as server, ThreadPoolExecutor(CASES_AT_A_TIME) as pool:
        results = {case: pool.submit(CASES[case], server) for case in cases if case != LAST}
        for result in results.values():
            result.exception()
        if LAST in cases:
            results[LAST] = pool.submit(log_and_exit, server)
            results[LAST].exception()
        return results


@pytest.mark.parametrize(
    ("flavour", "case"), TRIED, ids=[f"{title(flavour)}-{case}" for flavour, case in TRIED]
)
def test_a_server(found, flavour, case):
    need(*flavour.distributions, "h2", "h11")
    word = found[flavour].result()[case].result()
    table = "streams" if case in STREAMS else "habits"
    BOOKS["servers"].hold(table, title(flavour), case, word, *flavour.distributions)


@pytest.mark.parametrize(("table", "columns"), [("streams", STREAMS), ("habits", HABITS)])
def test_the_page_has_no_other_cells(table, columns):
    cells = {(title(flavour), case) for flavour, case in TRIED if case in columns}
    assert BOOKS["servers"].cells(table) == cells
