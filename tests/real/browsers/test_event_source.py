"""What each browser makes of pings and of ends, with `EventSource` and with `fetch`."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from real.browsers.engines import ENGINES
from real.clients.pings import (
    HARMFUL,
    INVISIBLE,
    LISTENED_FOR,
    PINGS,
    TITLES,
    VISIBLE,
    outcome,
)
from real.compatibility import BOOKS
from real.http_clients import complaints, token
from real.processes import running, wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

ENDINGS = ("lf", "crlf")
BOOK, TABLE = BOOKS["clients"], "browser"
ENDS_TABLE = "browser-ends"
EVENT_SOURCE = "{}: `EventSource`"
FETCH = "{}: `fetch`, the rest of each line after `data:`"

OPENS, OPENS_AT_ONCE, ENDS, FAREWELL = (
    "`onopen`, no ping sent",
    "`onopen`, `first_ping=0`",
    "the stream ends",
    "the stream ends with a `farewell`",
)
FIRST_BYTE = "first byte"
CONNECTS_AGAIN = "connects again, with `Last-Event-ID`"

CONNECTING = 0
"""What `readyState` is while a browser connects by itself."""

EVENTS = [
    ["message", "one", "1"],
    ["update", "two\nlines", "2"],
    ["message", "three", "2"],
    ["update", "first", "1"],
    ["message", "second", "1"],
]
LINES = ["one", "two", "lines", "three", "first", "second"]

LISTENERS = {"no listener": ["update"], "a listener": ["update", "ping"]}


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")

    def command(port):
        options = ["--port", str(port), "--lifespan", "off", "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "real.browsers.app:application", *options]

    with running("uvicorn", command, folder) as process:
        yield process
        assert complaints(process.log) == []


class Reading:
    """A page that reads streams, and what is known of them on both sides."""

    def __init__(self, server, tab):
        self._server = server
        self._tokens = []
        self.tab = tab
        self.tab.evaluate("() => { read = []; }")

    def begin(self, path, function, *given):
        """Read a stream with a function of the page."""
        path, _, query = path.partition("?")
        self._tokens.append(token())
        given = [f"{path}/{self._tokens[-1]}?{query}", *given]
        self.tab.evaluate(f"(given) => {{ read.push({function}(...given)); }}", given)

    def read(self):
        """Return what the page has seen, when all its streams have said their end."""
        seen = self.wait_for("read.every((seen) => seen.done)")
        assert self.tab.complaints == []
        return seen

    def wait_for(self, script):
        """Wait for something; return what the page has seen of each stream, and the server."""
        self.tab.wait_for(script)
        seen = self.tab.evaluate("read")
        return [one | self.control("facts", at) for at, one in enumerate(seen)]

    def control(self, name, at=0):
        return httpx.get(self._server.url(f"/{name}/{self._tokens[at]}")).json()


@pytest.fixture(scope="module")
def reading(browser, server):
    @contextmanager
    def opened():
        with browser.tab(server.url("/page")) as tab:
            yield Reading(server, tab)

    return opened


@pytest.fixture(scope="module")
def readings(reading):
    """The streams of all cases, many at the same time; each takes some seconds."""

    def read(ping, ending):
        path = f"/stream/{ping}/{ending}/paced"
        with reading() as made:
            made.begin(path, "listen", ["update"])
            made.begin(path, "listen", ["update", "ping"])
            made.begin(path, "fetchLines")
            if ping != "none":
                made.begin(f"/blind{path}", "listen", ["update"])
            return dict(
                zip(
                    ("non_listening", "listening", "fetch", "blind"), made.read(), strict=False
                )
            )

    with ThreadPoolExecutor(6) as pool:
        cases = [(ping, ending) for ping in ("none", *PINGS) for ending in ENDINGS]
        found = {case: pool.submit(read, *case) for case in cases}
        yield lambda *case: found[case].result()


CASES = [(ping, ending) for ping in PINGS for ending in ENDINGS]
each_ping = pytest.mark.parametrize(
    ("ping", "ending"), CASES, ids=["-".join(case) for case in CASES]
)


@each_ping
def test_event_source_gets_the_real_events_and_listeners_the_pings(
    engine, readings, ping, ending
):
    for name in ("none", ping):
        for seen in map(readings(name, ending).get, ("non_listening", "listening")):
            assert [event for event in seen["events"] if event[0] != "ping"] == EVENTS
            assert (seen["opened"], seen["errors"]) == (1, [])

    seen = readings(ping, ending)
    pings = [event for event in seen["listening"]["events"] if event[0] == "ping"]
    data = {"event": "", "json": "{}"}.get(ping)
    assert {event[1] for event in pings} == ({data} if data is not None else set())
    assert len(pings) >= 2 * (data is not None)
    word = outcome(EVENTS, seen["non_listening"]["events"])
    assert word == INVISIBLE
    word = LISTENED_FOR if pings else word
    BOOK.hold(TABLE, EVENT_SOURCE.format(engine.title), TITLES[ping], word, engine.part)


@each_ping
def test_event_source_loses_events_to_a_ping_inside_them(readings, ping, ending):
    plain = readings("none", ending)["non_listening"]["events"]
    assert outcome(plain, readings(ping, ending)["blind"]["events"]) == HARMFUL


@each_ping
def test_a_reader_of_lines_gets_the_data_of_pings_too(engine, readings, ping, ending):
    plain, pinged = (readings(name, ending)["fetch"] for name in ("none", ping))
    assert plain["events"] == LINES
    word = outcome(LINES, pinged["events"], error=pinged["errors"] or None)
    assert word == (VISIBLE if ping in {"event", "json"} else INVISIBLE)
    BOOK.hold(TABLE, FETCH.format(engine.title), TITLES[ping], word, engine.part)


def test_the_tables_have_a_cell_for_each_case():
    rows = [row.format(engine.title) for engine in ENGINES for row in (EVENT_SOURCE, FETCH)]
    assert BOOK.cells(TABLE) == {(row, title) for row in rows for title in TITLES.values()}
    columns = (OPENS, OPENS_AT_ONCE, ENDS, FAREWELL)
    assert BOOK.cells(ENDS_TABLE) == {
        (engine.title, column) for engine in ENGINES for column in columns
    }


@pytest.fixture(scope="module")
def returns(reading):
    """Streams that end after some pings, to which the browser comes back by itself."""
    cases = [*((ping, 50) for ping in PINGS), ("event", 1000)]
    with reading() as made:
        for ping, retry in cases:
            made.begin(f"/stream/{ping}/lf/ends?retry={retry}", "listen", ["ping"])
        yield dict(zip(cases, made.read(), strict=True))


@pytest.mark.parametrize("ping", PINGS)
def test_a_ping_changes_neither_the_last_id_nor_the_time_to_come_back(engine, returns, ping):
    seen = returns[ping, 50]
    assert seen["last_ids"] == [None, "7"]
    assert (seen["opened"], seen["errors"]) == (2, [CONNECTING])
    assert {event[2] for event in seen["events"]} == {"7"}
    assert seen["opened_at"][1] - seen["ended_at"][0] < engine.reconnects_after
    if ping == "event":
        BOOK.hold(ENDS_TABLE, engine.title, ENDS, CONNECTS_AGAIN, engine.part)


def test_a_long_time_to_come_back_is_kept(returns):
    seen = returns["event", 1000]
    assert seen["opened_at"][1] - seen["ended_at"][0] >= 0.99


def test_with_a_ping_at_once_a_stream_opens_before_the_app_has_said_anything(engine, reading):
    with reading() as made:
        made.begin("/stream/event/lf/gated", "listen", ["ping"])
        (seen,) = made.wait_for("read[0].events.length")
        assert seen["opened"] == 1
        assert {event[0] for event in seen["events"]} == {"ping"}
        made.control("open")
        assert ["message", "at last", ""] in made.read()[0]["events"]
    BOOK.hold(ENDS_TABLE, engine.title, OPENS_AT_ONCE, "at once", engine.part)


def test_without_a_ping_a_stream_opens_with_its_head_or_its_first_byte(engine, reading):
    with reading() as made:
        made.begin("/stream/none/lf/gated", "listen", ["ping"])
        wait_for(lambda: made.control("facts")["opened_at"], "the request")
        made.begin("/stream/event/lf/quiet", "listen", ["ping"])
        if engine.opens_with == FIRST_BYTE:
            (seen, _) = made.wait_for("read[1].done")  # after twenty pings
        else:
            (seen, _) = made.wait_for("read[0].opened && read[1].opened")
        assert seen["events"] == []
        assert seen["opened"] == (engine.opens_with != FIRST_BYTE)
        made.control("open")
        seen, _ = made.read()
        assert (seen["opened"], seen["events"]) == (1, [["message", "at last", ""]])
    word = f"with the {engine.opens_with} of the response"
    BOOK.hold(ENDS_TABLE, engine.title, OPENS, word, engine.part)


def test_a_stream_that_is_ended_is_opened_again_without_an_error(engine, reading):
    with reading() as made:
        made.begin("/stream/event/lf/endless?retry=50", "listen", ["ping", "stopping"])
        made.wait_for("read[0].events.some((event) => event[0] === 'ping')")
        made.control("stop")
        (seen,) = made.read()
    assert seen["events"][0] == ["message", "seven", "7"]
    assert seen["events"][-1] == ["stopping", "", "7"]
    assert (seen["opened"], seen["errors"]) == (2, [CONNECTING])
    assert seen["last_ids"] == [None, "7"]
    BOOK.hold(ENDS_TABLE, engine.title, FAREWELL, CONNECTS_AGAIN, engine.part)


def test_a_stream_that_is_kept_alive_over_a_silence_is_one_connection(reading):
    with reading() as made:
        made.begin("/stream/event/lf/quiet", "listen", ["ping"])
        (seen,) = made.read()
    kinds = [event[0] for event in seen["events"]]
    assert kinds == ["message", *["ping"] * (len(kinds) - 2), "message"]
    assert len(kinds) >= 22
    assert (seen["opened"], seen["errors"], seen["last_ids"]) == (1, [], [None])


def test_what_a_page_complains_of_is_heard(browser, server):
    """The checks of pages have teeth."""
    with browser.tab(server.url("/page")) as tab:
        tab.evaluate("console.error('on purpose')")
        tab.evaluate("void setTimeout(() => { throw new Error('thrown') })")
        wait_for(lambda: len(tab.complaints) == 2 or tab.evaluate("0"), "the complaints")
        first, second = tab.complaints
    assert first == "on purpose"
    assert second.endswith("thrown")
