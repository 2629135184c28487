"""The diagram of a stream's life is true: real streams do what it says, and nothing else.

Each change of a stream's state is noted, in scripted timelines that go each way there is, and
in the state machines of `test_machine`, which go any way they like.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import get_args
from unittest.mock import patch

import anyio
import pytest
import test_early_machine
import test_machine
from harness import BACKENDS, END, http, play, start
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from keepalive import AbortController, Ping
from keepalive import _middleware as middleware
from keepalive import _pulse as pulse
from keepalive import _stream as stream

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


def state_of(seen: object, before: str | None) -> str:
    """Return the state of a stream that was in another one before."""
    its_pulse, choice = seen._pulse, seen._choice
    if its_pulse is None:
        if before not in (None, "waiting", "starting", "passed"):
            return "closed"
        is_starting = getattr(seen, "_stage", None) == "starting"
        return "passed" if choice is None else "starting" if is_starting else "waiting"
    if getattr(seen, "over", False):
        return "gone"
    if choice is None:
        return "ended"
    if getattr(seen, "_cancel_end", None) is not None or before == "ending":
        return "ending"
    return "stopped" if seen.reason is not None else its_pulse._stage


class Watch:
    """Notes each change of state of each stream that is made meanwhile."""

    def __init__(self) -> None:
        self.seen: set[tuple[str | None, str]] = set()
        self._states: dict[int, str] = {}
        self._kept: list[object] = []  # so that no two have one identity

    def look(self, at: object) -> None:
        if not hasattr(at, "_outer"):  # it is only being made
            return
        before = self._states.get(id(at))
        after = state_of(at, before)
        if before is None:
            self._kept.append(at)
        if before != after:
            self.seen.add((before, after))
            self._states[id(at)] = after

    def watched(self, cls: type, names=None, of=lambda each: each) -> type:
        """Return a class whose objects are looked at whenever an attribute is set."""

        def set_and_look(each: object, name: str, value: object) -> None:
            object.__setattr__(each, name, value)
            if names is None or name in names:
                self.look(of(each))

        return type(cls.__name__, (cls,), {"__slots__": (), "__setattr__": set_and_look})


@contextmanager
def watching() -> Iterator[Watch]:
    watch = Watch()
    with ExitStack() as stack:
        for name in ("Stream", "BoundedStream", "EarlyStream"):
            cls = watch.watched(getattr(middleware, name))
            stack.enter_context(patch.object(middleware, name, cls))
        cls = watch.watched(pulse.Pulse, {"_stage"}, lambda each: each._owner)
        stack.enter_context(patch.object(stream, "Pulse", cls))
        stack.enter_context(patch("random.uniform", lambda _, most: most))
        yield watch


# Scripted


def slow(seconds, *bodies):
    """Have some bodies, or starts, take their time."""

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
    """Have a server refuse the first start."""
    errors = [ValueError()]
    world.failing = lambda message: (
        errors.pop() if errors and message["type"] == "http.response.start" else None
    )


def takes_none_empty(world):
    """Have a server take its time over empty bodies, and then refuse them."""
    world.slow = lambda message: 10 if is_empty(message) else 0
    world.failing = lambda message: ValueError() if is_empty(message) else None


def is_empty(message):
    return message.get("body") == b"" and message.get("more_body", False)


async def tries_an_empty_body(scope, receive, send):
    with pytest.raises(ValueError):
        await send({"type": "http.response.body", "body": b"", "more_body": True})


async def hears_that_the_client_leaves(scope, receive, send):
    while (await receive())["type"] != "http.disconnect":
        pass


async def stays(scope, receive, send):
    await anyio.sleep_forever()


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
    hears = hears_that_the_client_leaves
    yield [(1, hears), (5, start()), (9, END)], {"head": None, "prepare": leaves(2)}
    yield [(1, PIECE), (20, b"\n"), (30, END)], {}
    yield [(1, PIECE), (30, END)], {"prepare": leaves(25)}
    yield [(10, b"data: b\n\n"), (40, END)], {"prepare": slow(10, b"data: b\n\n")}
    yield [(10, b""), (40, END)], {"prepare": slow(10, b"")}
    yield [(10, tries_an_empty_body), (70, END)], {"prepare": takes_none_empty}
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
    yield [(1, hears), (60, END)], late | {"prepare": leaves_during_a_slow_start}


@pytest.mark.parametrize("backend", BACKENDS)
def test_streams_go_each_way_of_the_diagram_and_no_other(backend):
    with watching() as watch:
        for steps, options in timelines():
            play(backend, steps, **options)
    assert watch.seen == LIFE.TRANSITIONS | {(None, LIFE.FIRST)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "machine", [test_machine.Machine, test_early_machine.EarlyMachine], ids=["app", "early"]
)
def test_a_stream_goes_no_way_that_is_not_in_the_diagram(machine):
    bounds = settings(
        max_examples=40, stateful_step_count=30, deadline=None, derandomize=True, database=None
    )
    with watching() as watch:
        run_state_machine_as_test(machine, settings=bounds)
    assert watch.seen - LIFE.TRANSITIONS == {(None, LIFE.FIRST)}
    assert len(watch.seen) > 8


# Published


def test_the_stages_of_the_code_are_states_of_the_diagram():
    assert set(get_args(pulse.Stage)) == set(LIFE.OPEN) <= set(LIFE.STATES)
    assert {name for way in LIFE.TRANSITIONS for name in way} == set(LIFE.STATES)


def test_the_picture_and_the_tables_are_those_of_the_diagram():
    assert LIFE.PICTURE.read_text(encoding="utf-8") == LIFE.picture()
    page = LIFE.PAGE.read_text(encoding="utf-8")
    assert "plots/life.svg" in page
    assert LIFE.tables() in page
    assert LIFE.published(page) == page
    assert LIFE.published(page.replace("| over | closed |", "| over | x |")) == page
