"""The diagram of a stream's life is true: real streams do what it says, and nothing else.

Each change of a stream's state is recorded: in scripted timelines, which include each
transition, and in the state machines of `machine` and `early_machine`.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import anyio
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from model.early_machine import EarlyMachine
from model.machine import Machine
from support.harness import BACKENDS, END, body, http, play, start

from keepalive import AbortController, Ping
from keepalive import _middleware as middleware
from keepalive import _responder as responders
from keepalive._ending import EndState
from keepalive._live import SendState
from keepalive._responder import ResponseState

ROOT = Path(__file__).resolve().parent.parent.parent
EARLY = {"scope": http(headers=[(b"accept", b"text/event-stream")]), "head": None}


def life():
    """Return the program that draws the diagram."""
    spec = importlib.util.spec_from_file_location("life", ROOT / "docs" / "plots" / "life.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LIFE = life()


# Watching


STATE_ATTRIBUTES = {"state", "_state", "report", "live", "reason"}
QUICK = {"quick", "quick_sending"}
"""States of a busy stream, which the diagram does not tell from `idle`."""


def state_of(responder: object, terminator: object, early: object) -> str:
    """Return the state of a request, given what serves it besides its responder."""
    live = responder.live
    if responder.state == "closed":
        return "closed"
    if live is None:
        is_starting = early is not None and early._state == "starting"
        return "starting" if is_starting else responder.state
    end = None if terminator is None else terminator.state
    states = {
        "revoked": end == "revoked",
        "ended": live.report == "ended",
        "ending": end == "ending",
        "stopped": responder.reason is not None,
        "starting": live.report == "nothing",
    }
    sending = "idle" if live._state in QUICK else live._state
    return next((state for state, applies in states.items() if applies), sending)


class Watch:
    """Records each change of state of each request that is served meanwhile."""

    def __init__(self) -> None:
        self.seen: set[tuple[str | None, str]] = set()

    def look(self, responder: object) -> None:
        if not hasattr(responder, "live"):  # it is being created
            return
        seen = vars(responder)
        before = seen.get("before")
        after = state_of(responder, seen.get("Terminator"), seen.get("EarlyStart"))
        if before != after:
            self.seen.add((before, after))
            seen["before"] = after

    def watched(self, cls: type, responder_of=lambda each: each) -> type:
        """Return a class whose objects are looked at when their state changes.

        Unlike the class itself it has a `__dict__`. The responder's holds its last state, and
        the other objects that serve its request, by the names of their classes.
        """

        def set_and_look(each: object, name: str, value: object) -> None:
            object.__setattr__(each, name, value)
            if name in STATE_ATTRIBUTES:
                responder = responder_of(each)
                vars(responder)[cls.__name__] = each
                self.look(responder)

        return type(cls.__name__, (cls,), {"__setattr__": set_and_look})


@contextmanager
def watching() -> Iterator[Watch]:
    watch = Watch()
    watched = [
        (middleware, watch.watched(middleware.Responder)),
        (middleware, watch.watched(middleware.Terminator, attrgetter("_responder"))),
        (middleware, watch.watched(middleware.EarlyStart, attrgetter("_responder"))),
        (responders, watch.watched(responders.LiveStream, attrgetter("_request"))),
    ]
    with ExitStack() as stack:
        for module, cls in watched:
            stack.enter_context(patch.object(module, cls.__name__, cls))
        stack.enter_context(patch("random.uniform", lambda _, most: most))
        yield watch


# Scripted


def slow(seconds, *bodies):
    """Make the server slow at sending some bodies, or starts."""

    def prepare(world):
        world.slow = lambda message: (
            seconds if message.get("body", message["type"]) in bodies else 0
        )

    return prepare


def leaves(when):
    def prepare(world):
        world.leave_at = when

    return prepare


def leaves_during_a_slow_start(world):
    slow(30, "http.response.start")(world)
    leaves(10)(world)


def refuses(world):
    """Make the server reject the first start."""
    errors = [ValueError()]
    world.failing = lambda message: (
        errors.pop() if errors and message["type"] == "http.response.start" else None
    )


def refuses_empty_bodies(world):
    """Make the server slow at sending empty bodies, and then reject them."""
    world.slow = lambda message: 10 if is_empty(message) else 0
    world.failing = lambda message: ValueError() if is_empty(message) else None


def is_empty(message):
    return message.get("body") == b"" and message.get("more_body", False)


async def tries_an_empty_body(scope, receive, send):
    with pytest.raises(ValueError):
        await send({"type": "http.response.body", "body": b"", "more_body": True})


async def waits_for_the_disconnect(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass


async def stays(scope, receive, send):
    await anyio.sleep_forever()


async def stops_sending(scope, receive, send):
    with anyio.move_on_after(10):
        await send(body(PIECE))


async def returns(scope, receive, send):
    pass


async def raises(scope, receive, send):
    raise LookupError


def aborted(steps, when, **options):
    """Return a timeline in which the signal is aborted."""
    controller = AbortController()
    return steps, options | {"abort": controller.signal, "at": [(when, controller.abort)]}


def shut_down(steps, when, **options):
    """Return a timeline in which the owner shuts down."""
    callbacks = []
    return steps, options | {
        "on_shutdown": callbacks.append,
        "at": [(when, lambda: callbacks[0]())],
    }


PING = Ping.event().payload
PIECE = b"data: a\n"


def timelines():
    """Return timelines that, all together, go each way of the diagram."""
    yield [(20, END)], {}
    yield [(20, END)], {"head": start([])}
    waits = waits_for_the_disconnect
    yield [(1, waits), (5, start()), (9, END)], {"head": None, "prepare": leaves(2)}
    yield [(1, PIECE), (20, b"\n"), (30, END)], {}
    yield [(1, PIECE), (30, END)], {"prepare": leaves(25)}
    yield [(10, b"data: b\n\n"), (40, END)], {"prepare": slow(10, b"data: b\n\n")}
    yield [(10, b""), (40, END)], {"prepare": slow(10, b"")}
    yield [(10, tries_an_empty_body), (70, END)], {"prepare": refuses_empty_bodies}
    yield aborted([(10, PIECE), (40, END)], 17, prepare=slow(10, PIECE))
    yield aborted([(40, END)], 17, prepare=slow(10, PING))
    yield [(1, stays)], {"max_lifetime": 20.0}
    yield [(1, PIECE), (40, END)], {"send_timeout": 5.0, "prepare": slow(30, PIECE)}
    yield shut_down([(1, PIECE), (25.2, END)], 20, drain=5.0)
    yield shut_down([(1, stays)], 20, drain=5.0, prepare=leaves(5))
    yield [(10, start()), (20, END)], EARLY | {"start_after": 5.0}
    yield [(10, start()), (20, END)], EARLY | {"start_after": 5.0, "prepare": refuses}
    late = EARLY | {"start_after": 5.0, "prepare": slow(30, "http.response.start")}
    yield [(10, raises)], late | {"raises": LookupError}
    yield (
        [(1, waits), (60, start()), (60, END)],
        late | {"prepare": leaves_during_a_slow_start},
    )
    # The app's call is over in any state.
    yield [(1, returns)], {"head": None}
    yield [(1, PIECE)], {}
    yield [(10, stops_sending)], {"prepare": slow(30, PIECE)}
    yield [(1, PIECE), (20, returns)], {}
    yield [(16, returns)], {"prepare": slow(10, PING)}
    yield aborted([(20, returns)], 17)
    yield shut_down([(1, PIECE), (25.2, returns)], 20, drain=5.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_go_each_way_of_the_diagram_and_no_other(backend):
    with watching() as watch:
        for steps, options in timelines():
            play(backend, steps, **options)
    assert watch.seen == LIFE.TRANSITIONS | {(None, LIFE.FIRST)}


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Machine, EarlyMachine], ids=["app", "early"])
def test_a_stream_goes_no_way_that_is_not_in_the_diagram(machine):
    bounds = settings(
        max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, database=None
    )
    with watching() as watch:
        run_state_machine_as_test(machine, settings=bounds)
    assert watch.seen - LIFE.TRANSITIONS == {(None, LIFE.FIRST)}
    assert len(watch.seen) > 8


# Published


def test_the_states_of_the_code_are_states_of_the_diagram():
    assert set(get_args(SendState)) - QUICK == set(LIFE.KEPT_ALIVE)
    assert set(get_args(ResponseState)) - {"live"} <= set(LIFE.STATES)
    assert set(get_args(EndState)) - {"idle", "open"} <= set(LIFE.STATES)
    assert {name for way in LIFE.TRANSITIONS for name in way} == set(LIFE.STATES)


def test_the_picture_and_the_tables_are_those_of_the_diagram():
    assert LIFE.PICTURE.read_text(encoding="utf-8") == LIFE.picture()
    page = LIFE.PAGE.read_text(encoding="utf-8")
    assert "plots/life.svg" in page
    assert LIFE.tables() in page
    assert LIFE.published(page) == page
    assert LIFE.published(page.replace("| ended | revoked |", "| ended | x |")) == page
