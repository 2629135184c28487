"""What is held of every client, whatever it is written in."""

import json

import pytest
from real.clients.pings import HARMFUL, LOGGED, VISIBLE
from real.clients.readings import CUT, Case, Client, Family, Readings, Timer, path
from real.clients.rows import MARKS, TABLES, TIMERS, UNSET_ROWS, promises
from real.compatibility import BOOKS
from real.parts import need

BOOK = BOOKS["clients"]
UNKEPT, KEPT = "without pings", "with pings"


def rows(*families: Family) -> list[Client | Timer]:
    """Return all that is read with some families."""
    clients = (client for table in TABLES.values() for client in table)
    timers = (timer for group in TIMERS.values() for timer in group)
    return [row for row in (*clients, *timers) if row.family in families]


def _named(*values: object, name: str) -> object:
    return pytest.param(*values, id=name)


def cells(*families: Family) -> list[object]:
    """Return the table, the client and the case of each cell, for a test to take."""
    return [
        _named(table, client, case, name=f"{table}-{client.row}-{case.title}")
        for table, clients in TABLES.items()
        for client in clients
        if client.family in families
        for case in client.cases
    ]


def clients(*families: Family) -> list[object]:
    """Return the table and the client of each row."""
    return [
        _named(table, client, name=f"{table}-{client.row}")
        for table, rows in TABLES.items()
        for client in rows
        if client.family in families
    ]


def held(*families: Family) -> list[object]:
    """Return the clients that are tried with pings inside an event."""
    return [
        _named(client, name=f"{table}-{client.row}")
        for table, rows in TABLES.items()
        for client in rows
        if client.family in families and client.held
    ]


def promised(*families: Family) -> list[object]:
    """Return what the README promises."""
    return [
        _named(client, case, word, name=f"{client.row}-{case.protocol}-{case.ping}")
        for client, case, word in promises(*families)
    ]


def timers(*families: Family) -> list[object]:
    """Return the timers, and what becomes of their streams with pings."""
    return [
        _named(timer, fate, name=timer.row)
        for fate, group in TIMERS.items()
        for timer in group
        if timer.family in families
    ]


def published() -> dict[str, set[tuple[str, str]]]:
    """Return the row and the column of each cell that the tests cover, by table."""
    covered = {
        table: {(client.row, case.title) for client in rows for case in client.cases}
        for table, rows in TABLES.items()
    }
    for row in UNSET_ROWS:
        covered[row.table].add((row.client.row, row.case.title))
    rows = (timer.row for group in TIMERS.values() for timer in group)
    covered["timers"] = {(row, column) for row in rows for column in (UNKEPT, KEPT)}
    return covered


def hold_cell(found: Readings, table: str, client: Client, case: Case) -> None:
    """Hold what a client makes of a ping against its cell."""
    need(*client.family.parts)
    BOOK.hold(table, client.row, case.title, found.word(client, case), *client.used)


def hold_plain(found: Readings, table: str, client: Client) -> None:
    """Hold that a client gets all of a stream without pings: what it loses, pings cost it."""
    need(*client.family.parts)
    for case in client.cases:
        for reader in client.readers:
            plain = found.plain(client, case, reader)
            assert plain.error is None
            assert all(mark in json.dumps(plain.got) for mark in map(_inner, MARKS[table]))


def _inner(mark: str) -> str:
    return json.dumps(mark)[1:-1]


def hold_boundary(found: Readings, client: Client) -> None:
    """Hold that a ping inside an event costs the client something, and held to it does not."""
    need(*client.family.parts)
    assert client.held
    assert found.word(client, client.held, "blind") == HARMFUL
    word = found.word(client, client.held)
    assert word not in (HARMFUL, VISIBLE, LOGGED)
    assert found.word(client, client.held, "pieces") == word


def hold_promise(found: Readings, client: Client, case: Case, word: str) -> None:
    """Hold what the README says of a client."""
    need(*client.family.parts)
    assert found.word(client, case) == word
    if client.reader == "chat" and word == HARMFUL:
        assert "JSON" in str(found.of(client.family, "chat", path("kept", case)).error)


def hold_timer(found: Readings, timer: Timer, fate: str) -> None:
    """Hold that a silence longer than a timer cuts a stream, and what pings change."""
    need(*timer.family.parts)
    fates = {UNKEPT: found.fate(timer, "silent"), KEPT: found.fate(timer, timer.kept)}
    assert fates == {UNKEPT: CUT, KEPT: fate}
    if fate == CUT:  # a stream that goes on shows by itself that pings came
        assert found.pings(timer) >= 2
    for column, word in fates.items():
        BOOK.hold("timers", timer.row, column, word, *timer.used)
