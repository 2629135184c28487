"""Proxies with a short limit on silence: what they do to streams, and what pings help."""

import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from real.compatibility import DOCS
from real.http_clients import complaints, split_pings
from real.parts import missing, need
from real.processes import Process, running
from real.proxies.app import (
    FIRST,
    LAST,
    LONG,
    PINGS,
    PLAIN_TEXT,
    RECORDS,
    REPORT,
    SILENCE,
    TALK,
)
from real.proxies.configurations import (
    LIMIT,
    NGINX,
    NGINX_10,
    PROXIES,
    TOTAL,
    VARNISH,
    Proxy,
    found,
    of_mode,
)
from real.proxies.readings import (
    AT_ONCE,
    CUT,
    HEADERS,
    HELD,
    OPEN,
    PING,
    READINGS,
    WHOLE,
    Seen,
    Site,
)
from real.proxies.tables import BOOK, COLUMNS, compressed, fate, hold

pytestmark = [pytest.mark.real, pytest.mark.parts]

EARLY = 0.35
"""Seconds: nginx lets a timer run on that is younger than 0.3 when a byte comes."""

NOTICED, UNNOTICED = "detected", "not detected"

EVERY = pytest.mark.parametrize("name", PROXIES)
SPARING = pytest.mark.parametrize("name", of_mode("spared"))
WATCHING = pytest.mark.parametrize("name", of_mode("watching"))
BOUNDED = pytest.mark.parametrize("name", of_mode("total"))


def uvicorn(port: int) -> list[str]:
    """Return the command that serves the app."""
    command = [sys.executable, "-m", "uvicorn", "real.proxies.app:application"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]


def site_of(stack: ExitStack, proxy: Proxy, mode: str, folder: Path, app: Process) -> Site:
    """Run a proxy until the stack is unwound."""
    folder.mkdir()
    return Site(app, stack.enter_context(proxy.running(mode, folder, app.port)))


Measured = dict[tuple[str, str], Future[Seen]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    """All streams through all proxies that are here, at the same time."""
    folder = tmp_path_factory.mktemp("proxies")
    streams: Measured = {}
    with running("uvicorn", uvicorn, folder / "app") as app, ExitStack() as stack:
        with ThreadPoolExecutor(max_workers=200) as pool:
            for number, proxy in enumerate(PROXIES.values()):
                if missing(proxy.program):
                    continue
                for mode in proxy.modes:
                    place = folder / f"{number}-{mode}"
                    site = pool.submit(site_of, stack, proxy, mode, place, app)
                    for name, (where, read) in READINGS.items():
                        if where == mode:
                            streams[name, proxy.name] = pool.submit(
                                lambda read=read, site=site: read(site.result())
                            )
            yield streams
        assert complaints(app.log) == []


@pytest.fixture
def seen(measured: Measured, name: str):
    """What was seen of one proxy, by the names of the readings."""
    need(PROXIES[name].program, "uvicorn")
    return lambda reading: measured[reading, name].result()


@EVERY
def test_a_silent_stream_is_cut_without_the_middleware(seen, name):
    made, journal, _ = seen("silent")
    found = fate(made, FIRST, LAST)
    assert found != WHOLE
    assert made.body == FIRST
    assert made.end != OPEN
    assert journal["silence"] > LIMIT - EARLY
    assert journal["left"]
    hold("silence", name, "idle, without the middleware", found)


@EVERY
def test_the_same_stream_is_not_cut_when_it_talks(seen, name):
    """It is the silence that a stream is cut for, and not its length."""
    found = fate(seen("talking").made, TALK * PINGS, LAST)
    assert found == WHOLE
    hold("silence", name, "active, without the middleware", found)


@EVERY
def test_a_silent_stream_lives_with_the_middleware(seen, name):
    made, journal, _ = seen("kept")
    found = fate(made, FIRST, LAST)
    assert found == WHOLE
    assert split_pings(made.body)[1] >= PINGS
    assert journal["silence"] > SILENCE > 2 * LIMIT
    assert journal["reason"] == "completed"
    hold("silence", name, "idle, with the middleware", found)


@EVERY
def test_ndjson_lives_with_spaces(seen, name):
    made, journal, _ = seen("records")
    assert (made.status, made.end) == (200, WHOLE)
    lines = made.body.splitlines(keepends=True)
    assert tuple(line.lstrip(b" ") for line in lines) == RECORDS
    assert len(lines[1]) - len(RECORDS[1]) >= PINGS
    assert journal["silence"] > 2 * LIMIT
    hold("silence", name, "idle NDJSON, `Ping.space()`", made.end)


@EVERY
def test_silence_before_the_response_starts_is_no_streams_silence(seen, name):
    made, journal, _ = seen("mute")
    assert made.status in (502, 503, 504)
    assert journal["left"]
    assert journal["pings"] == 0
    hold("silence", name, "no response yet", fate(made))


@EVERY
def test_a_response_that_is_started_in_its_apps_place_lives(seen, name):
    made, journal, _ = seen("tardy")
    found = fate(made, LAST)
    assert found == WHOLE
    assert split_pings(made.body)[1] >= PINGS
    assert journal["silence"] > SILENCE > 2 * LIMIT
    hold("silence", name, "no response yet, `start_after`", found)


@EVERY
def test_json_that_is_started_in_its_apps_place_lives(seen, name):
    made, journal, _ = seen("report")
    assert (made.status, made.end) == (200, WHOLE)
    assert made.body.lstrip(b" ") == REPORT
    assert len(made.body) - len(REPORT) >= PINGS
    assert journal["silence"] > 2 * LIMIT
    hold("silence", name, "slow JSON, `start_after`", made.end)


@EVERY
def test_the_clients_connection_is_good_for_another_request(seen, name):
    assert seen("talking").made.again == 200
    assert seen("kept").made.again == 200
    silent = seen("silent").made
    assert silent.again == (0 if silent.end == CUT else 200)


@EVERY
def test_headers_come_before_the_first_event(seen, name):
    plain, late, first, bare = (
        seen(f"head, {variant}") for variant in ("plain", "late", "first", "first-bare")
    )
    assert (late.passed, first.passed, bare.passed) == (AT_ONCE,) * 3
    assert fate(plain.made, LAST) == fate(late.made, LAST) == WHOLE
    assert late.made.body == LAST
    for seen_first in (first, bare):
        assert seen_first.made.body == PING + LAST
    if PROXIES[name] in (NGINX, NGINX_10):
        assert plain.passed == HELD
    hold("passing", name, "headers, without the middleware", plain.passed)
    hold("passing", name, "headers, with the middleware", late.passed)
    hold("passing", name, "headers, `anti_buffering=False`, `first_ping=0`", bare.passed)


@EVERY
def test_events_and_pings_come_at_once(seen, name):
    kept, bare = seen("gate, kept"), seen("gate, bare")
    assert kept.passed == AT_ONCE
    assert fate(kept.made, FIRST, LAST) == fate(bare.made, FIRST, LAST) == WHOLE
    hold("passing", name, "events and pings, `anti_buffering=False`", bare.passed)
    hold("passing", name, "events and pings, default options", kept.passed)


@EVERY
def test_what_becomes_of_the_headers(seen, name):
    headers = seen("gate, kept").made.headers
    assert headers["cache-control"] == "no-cache, no-transform"
    assert "x-accel-buffering" not in seen("gate, bare").made.headers
    passed = headers.get("x-accel-buffering")
    assert passed == (None if PROXIES[name] in (NGINX, NGINX_10) else "no")
    hold("passing", name, "`X-Accel-Buffering`", "passed on" if passed else "removed")


@EVERY
@pytest.mark.parametrize("variant", HEADERS)
def test_a_proxy_that_compresses(seen, name, variant):
    one = seen(f"gzip, {variant}")
    assert fate(one.made, LONG, LAST) == WHOLE
    hold("compression", name, HEADERS[variant], compressed(one))


@SPARING
def test_a_proxy_that_compresses_all_but_event_streams(seen, name):
    """Where no header helps; other texts are still compressed."""
    one, text = seen("spared"), seen("spared text")
    assert seen("gzip, kept").passed == HELD
    assert compressed(one) == "uncompressed, immediately"
    assert fate(one.made, LONG, LAST) == WHOLE
    assert text.made.headers["content-encoding"] == "gzip"
    assert text.made.body == PLAIN_TEXT


def test_whoever_holds_streams_back_has_a_way_to_spare_them():
    held = {
        name
        for (name, column) in BOOK.cells("compression")
        if column == HEADERS["kept"]
        and BOOK.read()["tables"]["compression"][name]["cells"][column].endswith(HELD)
    }
    assert held == set(of_mode("spared"))


@EVERY
def test_a_clients_leaving_is_noticed(seen, name):
    plain, kept = seen("left, plain").journal, seen("left, kept").journal
    assert kept["left"]
    assert kept["reason"] == "disconnected"
    assert kept["pings"] < PINGS
    words = {True: NOTICED, False: UNNOTICED}
    hold("leaving", name, "idle, without the middleware", words[plain["left"]])
    hold("leaving", name, "idle, with the middleware", words[kept["left"]])


@WATCHING
def test_a_proxy_that_is_configured_to_watch_its_clients(seen, name):
    assert not seen("left, plain").journal["left"]
    assert seen("left, watched").journal["left"]


@BOUNDED
def test_no_ping_helps_against_a_limit_on_the_whole_response(seen, name):
    kept, mortal = seen("total, kept"), seen("total, mortal")
    assert kept.made.end == CUT
    assert kept.journal["pings"] > 0.8 * TOTAL / 0.1 / 2
    assert fate(mortal.made, FIRST) == WHOLE
    assert mortal.journal["reason"] == "max_lifetime"
    hold("total", name, "pings", fate(kept.made, FIRST))
    hold("total", name, "pings and a shorter `max_lifetime`", fate(mortal.made, FIRST))


def test_varnish_names_its_own_limits():
    need(VARNISH.program)
    command = [found("varnishd"), "-x", "parameter"]
    named = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    limits = dict(re.findall(r"^(\w+)\n~+\n.*\n\t\* Default: ([\d.]+)$", named, re.MULTILINE))
    assert float(limits["first_byte_timeout"]) == float(limits["between_bytes_timeout"]) == 60
    assert float(limits["send_timeout"]) == 600


@pytest.mark.parametrize("table", COLUMNS)
def test_a_table_has_all_its_cells_and_no_other(table):
    names = of_mode("total") if table == "total" else PROXIES
    cells = {(name, column) for name in names for column in COLUMNS[table]}
    assert BOOK.cells(table) == cells


def test_the_page_shows_the_configuration_of_the_proxies():
    page = (DOCS / "proxies.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert shown == [proxy.text for proxy in PROXIES.values() if proxy is not NGINX_10]
