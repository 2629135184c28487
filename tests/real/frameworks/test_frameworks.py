"""Frameworks under uvicorn, wrapped as their users do it: kept alive, else unchanged."""

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from real.compatibility import BOOKS
from real.frameworks.cases import CASES, IN_SILENCE, Case
from real.frameworks.measuring import (
    left_listener,
    left_standalone,
    left_stream,
    no_stream,
    whole_stream,
)
from real.frameworks.reading import Served
from real.http_clients import complaints, parsed
from real.parts import missing, need

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK = BOOKS["frameworks"]
TABLE, SIGNAL_TABLE = "all", "signal"
EVENTS, OTHER, NO_STREAM, LEAVES, BACKGROUND, LISTENS = (
    "event stream",
    "other stream",
    "not a stream",
    "client disconnects",
    "background tasks",
    "client disconnects, app waits for `signal`",
)
ANTI_BUFFERING = {"x-accel-buffering": "no", "cache-control": "no-cache, no-transform"}

MCP = next(case for case in CASES if case.name == "mcp")
NON_LISTENING = [case for case in CASES if case.name in {"falcon", "blacksheep", "sanic"}]
OF_RECORDS = [case for case in CASES if case.records]

Aspects = dict[str, Callable[[Served], object]]


def aspects(case) -> Aspects:
    """Return all that is taken of a framework."""
    found: Aspects = {}
    for variant in ("plain", "kept"):
        found |= {
            f"{variant}/events": lambda s, v=variant: whole_stream(case, s, v, "/events"),
            f"{variant}/whole": lambda s, v=variant: no_stream(case, s, v),
            f"{variant}/left": lambda s, v=variant: left_stream(case, s, v),
        }
        if case.records:
            found[f"{variant}/records"] = lambda s, v=variant: whole_stream(
                case, s, v, "/records"
            )
        if case is MCP:
            found[f"{variant}/standalone"] = lambda s, v=variant: left_standalone(s, v)
    if case in NON_LISTENING:
        found["kept/listener"] = lambda s: left_listener(case, s)
    return found


def measure(case, folder) -> dict[str, Future]:
    """Serve a framework, and take everything at the same time."""
    server = Served(case.name, folder)
    try:
        with ThreadPoolExecutor() as pool:
            found = {name: pool.submit(take, server) for name, take in aspects(case).items()}
        log: Future = Future()
        log.set_result(complaints(server.process.log))
        return found | {"complaints": log}
    finally:
        server.process.stop()


@pytest.fixture(scope="module")
def measured(request, tmp_path_factory):
    """All frameworks that the selected tests are about; some at the same time."""
    folder = tmp_path_factory.mktemp("frameworks")
    items = [item for item in request.session.items if item.path == request.path]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    wanted = {one["case"]: None for one in parameters if "case" in one}
    with ThreadPoolExecutor(4) as pool:
        yield {
            case: pool.submit(measure, case, folder / str(number))
            for number, case in enumerate(wanted)
            if not missing(*case.needed)
        }


@pytest.fixture
def take(measured, case: Case):
    """Return what gives each thing that was taken of a test's framework."""
    need(*case.needed)
    found = measured[case].result()
    return lambda name: found[name].result()


def check_stream(case, plain, kept):
    """Check that pings were all that was added; return the cell."""
    assert plain.pings == 0
    assert kept.app_bytes == plain.app_bytes == plain.body
    assert kept.pings >= case.opening + 2 * case.items
    added = {k: v for k, v in ANTI_BUFFERING.items() if k not in plain.headers}
    assert kept.headers == plain.headers | added
    (end,) = kept.of("StreamEnded")
    assert (end["reason"], end["pings"]) == ("completed", kept.pings)
    assert not plain.of("StreamStarted", "StreamEnded")
    assert plain.of("over", "call over") == [
        fact | {"token": plain.facts[0]["token"]} for fact in kept.of("over", "call over")
    ]
    return "kept alive" if case.opening else "kept alive after the first event"


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.title)


@each(CASES)
def test_events_are_kept_alive_and_come_unchanged(take, case):
    plain, kept = take("plain/events"), take("kept/events")
    cell = check_stream(case, plain, kept)
    events = parsed(plain.body)
    assert len(events) == case.events
    assert [event for event in parsed(kept.body) if event[0] != "ping"] == events
    assert sum(event[0] == "ping" for event in parsed(kept.body)) == kept.pings
    BOOK.hold(TABLE, case.title, EVENTS, cell, *case.used)


@each(OF_RECORDS)
def test_records_are_kept_alive_where_they_are_asked_for(take, case):
    cell = check_stream(case, take("plain/records"), take("kept/records"))
    assert take("plain/records").body == b'{"n":1}\n{"n":2}\n'
    BOOK.hold(TABLE, case.title, OTHER, cell, *case.used)


@each([MCP])
def test_the_stream_on_which_an_mcp_server_may_speak_is_kept_alive(take, case):
    plain, kept = take("plain/standalone"), take("kept/standalone")
    assert kept.pings >= 2
    assert kept.app_bytes == plain.body == b""
    assert kept.headers == plain.headers
    assert [end["reason"] for end in kept.of("StreamEnded")] == ["disconnected"]
    BOOK.hold(TABLE, case.title, OTHER, "kept alive", *case.used)


@each(CASES)
def test_a_response_that_is_not_a_stream_is_left_alone(take, case):
    plain, kept = take("plain/whole"), take("kept/whole")
    assert json.loads(plain.body or b"null") == case.whole
    assert not kept.of("StreamStarted")
    assert (kept.status, kept.headers, kept.body) == (plain.status, plain.headers, plain.body)
    BOOK.hold(TABLE, case.title, NO_STREAM, "unchanged", *case.used)


def behaviour(one):
    """Return what an app did when its client had left; how often it was silent counts too."""
    facts = [(fact["kind"], fact.get("how")) for fact in one.of("over", "background ran")]
    calls = [fact["how"] for fact in one.of("call over")]
    return facts, calls, len(one.of("silent"))


def in_words(case, facts):
    """Say what a generator met."""
    order = [kind for kind, _ in facts]
    how = dict(facts)["over"]
    word = {
        "CancelledError": "cancelled",
        "GeneratorExit": "closed at its next event",
        "completed": "continues",
    }[how]
    late = case.background and order.index("background ran") < order.index("over")
    return f"{word} after its background tasks" if late and how == "CancelledError" else word


@each(CASES)
def test_a_client_that_leaves_is_noticed_as_without(take, case):
    plain, kept = take("plain/left"), take("kept/left")
    assert [end["reason"] for end in kept.of("StreamEnded")] == ["disconnected"]
    assert behaviour(kept) == behaviour(plain)
    facts, calls, _ = behaviour(kept)
    assert calls == ["returned"]
    word = in_words(case, facts)
    assert (word == "cancelled") is (case.notices == IN_SILENCE)
    BOOK.hold(TABLE, case.title, LEAVES, word, *case.used)


@each(CASES)
def test_what_is_for_afterwards_runs_as_without(take, case):
    runs = [
        len(take(f"{variant}/{end}").of("background ran"))
        for variant in ("plain", "kept")
        for end in ("events", "left")
    ]
    if case.background:
        assert runs == [1, 1, 1, 1]
        BOOK.hold(TABLE, case.title, BACKGROUND, "run in both cases", *case.used)
    else:
        assert runs == [0, 0, 0, 0]
        BOOK.hold(TABLE, case.title, BACKGROUND, "has none", *case.used)


@each(NON_LISTENING)
def test_the_streams_signal_tells_an_app_that_its_framework_does_not(take, case):
    found = take("kept/listener")
    assert len(found.of("silent")) == 2, "the app has gone on"
    assert [fact["how"] for fact in found.of("call over")] == ["returned"]
    assert [end["reason"] for end in found.of("StreamEnded")] == ["disconnected"]
    BOOK.hold(SIGNAL_TABLE, case.title, LISTENS, "stops immediately", *case.used)


@each(CASES)
def test_nothing_is_logged(take, case):
    own = [line for line in take("complaints") if case.logs and case.logs in line]
    assert take("complaints") == own
    assert len(own) == 2 * bool(case.logs)  # of the client that leaves, with and without ours


def test_the_tables_have_a_cell_for_each_test_and_no_other():
    columns = (EVENTS, NO_STREAM, LEAVES, BACKGROUND)
    assert BOOK.cells(TABLE) == {
        *((case.title, column) for case in CASES for column in columns),
        *((case.title, OTHER) for case in [*OF_RECORDS, MCP]),
    }
    assert BOOK.cells(SIGNAL_TABLE) == {(case.title, LISTENS) for case in NON_LISTENING}
