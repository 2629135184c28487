"""The middleware with no option set but the interval: what real clients make of its pings."""

import pytest
from real.clients.pings import INVISIBLE, LISTENED_FOR, PINGS, TITLES, outcome
from real.clients.readings import TIMEOUT, path, readings
from real.clients.rows import BARE, UNSET_ROWS, WINDOWS
from real.compatibility import BOOKS
from real.parts import need

pytestmark = [pytest.mark.real, pytest.mark.parts, pytest.mark.timeout(TIMEOUT)]

BOOK = BOOKS["clients"]
SEEN = "default ping"
EVENT_SOURCE, *FETCHES = "EventSource", "fetch, GET", "fetch, POST"
LINES = sorted(["one", "two", "lines", "three"])


def named(rows):
    return [
        pytest.param(row, id=f"{row.table}-{row.client.row}-{row.delivery}") for row in rows
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    rows = [*UNSET_ROWS, *BARE, *WINDOWS]
    with readings(rows, tmp_path_factory.mktemp("default-ping")) as made:
        yield made


@pytest.mark.parametrize("row", named(UNSET_ROWS))
def test_what_a_client_makes_of_the_default_ping(found, row):
    need(*row.family.parts)
    assert found.plain(row.client, row.case).error is None
    word = found.word(row.client, row.case, row.delivery)
    assert word == row.word, found.of(
        row.family, row.client.reader, path(row.delivery, row.case)
    )
    excluded = row.delivery == "excluded"
    assert (found.unset_pings(row) >= 1) is not excluded
    BOOK.hold(row.table, row.client.row, row.case.title, word, *row.client.used)


@pytest.mark.parametrize("row", named(BARE))
def test_what_a_reader_of_the_text_sees(found, row):
    need(*row.family.parts)
    (plain,) = found.plain(row.client, row.case).got
    (text,) = found.of(row.family, row.client.reader, path("unset", row.case)).got
    ping = PINGS[row.word].payload.decode()
    assert text.replace(ping, "") == plain
    assert text.count(ping) >= 2
    BOOK.hold(row.table, row.client.row, SEEN, TITLES[row.word], *row.client.used)


@pytest.mark.parametrize("row", named(WINDOWS))
def test_a_page_gets_the_events_and_its_listeners_for_pings_get_these(found, row):
    need(*row.family.parts)
    plain = found.plain(row.client, row.case)
    pinged = found.of(row.family, row.client.reader, path("unset", row.case))
    events = [item for item in pinged.got if item[:2] != [EVENT_SOURCE, "ping"]]
    assert (plain.error, pinged.error) == (None, None)
    assert sorted(data for kind, data, *_ in plain.got if kind in FETCHES) == sorted(LINES * 2)
    assert outcome(plain.got, events) == INVISIBLE
    pings = [item for item in pinged.got if item not in events]
    assert len(pings) >= 2
    assert {data for _, _, data, _ in pings} == {""}
    used = row.client.used
    for name, word in (("`EventSource`", LISTENED_FOR), ("`fetch()`", INVISIBLE)):
        BOOK.hold(row.table, f"{row.client.row}: {name}", row.case.title, word, *used)


def test_the_tables_have_the_cells_of_these_tests_and_no_other():
    assert BOOK.cells("http") == {(row.client.row, SEEN) for row in BARE}
    titles = {row.case.title for row in WINDOWS}
    assert BOOK.cells("windows") == {
        (f"{row.client.row}: {name}", title)
        for row in WINDOWS
        for name in ("`EventSource`", "`fetch()`")
        for title in titles
    }
