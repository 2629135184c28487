"""Servers that are stopped with streams open: these end well, and then the servers."""

import json
import re
import signal
import sys
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from real.parts import need
from real.processes import EXAMPLES, TESTS
from real.servers import shutdown_table
from real.servers.cases import CASES, EVERY, RELOAD, TWICE, Case, Server, of
from real.servers.shutdown import FAREWELL, KINDS, measure, reloaded
from real.servers.shutdown_app import DRAIN
from real.servers.shutdown_clients import CLEAN, CUT, OPEN, Reader

pytestmark = [pytest.mark.real, pytest.mark.slow]

WORKING = [case for case in CASES if case.works]
UNHEARD = [case for case in CASES if not case.works]

STEP = 1.0
"""Seconds, at most, from the end of the drain to that of an app that has to be cancelled."""

ALLOWANCE = 6.0
"""Seconds in which a server must be through with its own affairs, on a busy machine."""


@pytest.fixture(scope="module")
def measured(request, tmp_path_factory):
    """All servers that the selected tests are about; some at the same time."""
    folder = tmp_path_factory.mktemp("servers")
    chosen = [item for item in request.session.items if item.path == request.path]
    parameters = [getattr(item, "callspec", None) for item in chosen]
    cases = {one.params["case"]: None for one in parameters if one and "case" in one.params}
    with ThreadPoolExecutor(4) as pool:
        yield {
            case: pool.submit(run, case, folder / str(number))
            for number, case in enumerate(cases)
            if not case.missing()
        }


def run(case, folder):
    """Measure one of them."""
    act = reloaded if case is RELOAD else None
    # A server that cuts its streams has gone long before such a drain is over.
    environ = {"DRAIN": "60"} if case in TWICE and not case.waits else {}
    return measure(case, folder, act=act, too_long=DRAIN + STEP + ALLOWANCE, **environ)


@pytest.fixture
def found(measured: dict[Case, Future], case: Case):
    """What was found of a test's server."""
    need(*case.distributions)
    return measured[case].result()


def streams(found, kind):
    """Return the streams of one kind."""
    return [one for one in found["streams"] if one["kind"] == kind]


def check_that_streams_ended_well(found, ends=(CLEAN,)):
    """Check the clients' side, and the apps'."""
    for one in streams(found, "finishing"):
        assert one["own_end"], one
        assert one["met"] is None, one
    for one in streams(found, "feed") + streams(found, "blocked"):
        assert one["farewell"], one
        assert one["after"] >= DRAIN / 2, one
    # An app that sends meets an error; one that only waits has to be cancelled.
    assert {one["met"] for one in streams(found, "feed")} == {"ClientDisconnected"}
    assert {one["met"] for one in streams(found, "blocked")} <= {"CancelledError", "Cancelled"}
    assert all(one["end"] in ends and one["finally"] for one in found["streams"])


@pytest.mark.parametrize("case", WORKING, ids=lambda case: case.name)
def test_the_streams_end_well_and_then_the_server(found, case):
    check_that_streams_ended_well(found, (CLEAN, CUT) if case.loses_end else (CLEAN,))
    assert found["gone"] is not None, "it had to be killed"
    assert found["status"] == case.status
    assert found["lifespan_shutdown"] is case.lifespan
    assert found["alone"]


@pytest.mark.parametrize("case", TWICE, ids=lambda case: case.name)
def test_a_second_ctrl_c_cuts_the_streams_unless_the_server_waits_for_them(found, case):
    assert found["gone"] is not None
    assert found["status"] == case.status
    unfinished = streams(found, "feed") + streams(found, "blocked")
    assert {one["end"] for one in unfinished} == {CLEAN if case.waits else CUT}


@pytest.mark.parametrize("case", [RELOAD], ids=lambda case: case.name)
def test_a_reload_ends_the_streams_and_serves_on(found, case):
    check_that_streams_ended_well(found)
    assert found["gone"] is not None
    assert found["status"] == case.status
    assert found["lifespan_shutdown"]


@pytest.mark.parametrize("case", UNHEARD, ids=lambda case: case.name)
def test_a_server_that_says_nothing_stops_as_it_always_did(found, case):
    if case.waits:
        assert found["gone"] is None
        assert all(one["end"] == OPEN for one in found["streams"])
        return
    assert found["gone"] is not None
    assert found["status"] == case.status
    assert all(one["end"] != OPEN for one in found["streams"])
    assert found["lifespan_shutdown"] is case.lifespan


PROGRAMS = {
    "hypercorn on asyncio": ("hypercorn", "hypercorn_server.py", "asyncio 127.0.0.1:{port}"),
    "hypercorn on trio": ("hypercorn", "hypercorn_server.py", "trio 127.0.0.1:{port}"),
    "daphne": ("daphne", "daphne_server.py", "{port}"),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_of_ones_own_runs_as_it_says(tmp_path, program, number):
    name, example, options = PROGRAMS[program]
    case = of(name, needs=("trio",) if "trio" in program else ())
    need(*case.distributions)

    def command(port):
        words = options.format(port=port).split()
        return [sys.executable, str(EXAMPLES / example), *words]

    server = Server(case, tmp_path / "server", command=command)
    try:
        reader = Reader(server.port, "/")
        reader.wait_until_begun()
        server.signal(number)
        reader.join()
        assert (reader.end, reader.body) == (CLEAN, b"data: news\n\n" + FAREWELL)
        assert server.gone_within(ALLOWANCE)
        assert server.process.returncode == 0
        assert not re.search("Traceback|ERROR", server.log)
    finally:
        server.stop()


def test_all_that_these_servers_need_comes_with_the_tests():
    """Else they would be skipped where all else is run, and nobody would see."""
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["test"]
    asked = {re.match(r"[\w.-]+", line)[0] for line in extra} | {"uvicorn", "h11"}
    assert {name for case in EVERY for name in case.distributions} <= asked


def test_the_page_shows_the_results_that_were_measured():
    """No number is written by hand; whoever measures anew runs `shutdown_table.py`."""
    page = shutdown_table.PAGE.read_text(encoding="utf-8")
    found = json.loads(shutdown_table.RESULTS.read_text(encoding="utf-8"))
    assert len(found["servers"]) == len(EVERY)
    assert all(
        {one["kind"] for one in row["with"]["streams"]} == {*KINDS} for row in found["servers"]
    )
    assert shutdown_table.published(page, found) == page
    assert set(re.findall(r"<!-- results: (\w+) -->", page)) == set(shutdown_table.TABLES)
    found["servers"][0]["with"]["gone"] += 1
    assert shutdown_table.published(page, found) != page
