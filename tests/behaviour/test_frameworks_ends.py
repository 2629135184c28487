"""Starlette and FastAPI whose streams the middleware ends: as if their clients had left.

Background tasks run, dependencies and generators are left in an orderly way and in their own
task, and nothing is logged. In virtual time; each of the streams sends some turns of the event
loop later than the one before it, so that every order of a send and the end occurs.

A client that leaves in the very turn in which a framework's own memory stream is in use makes
some versions of Starlette and FastAPI leave a generator to the garbage collector, without any
middleware of ours. So the same app is tried without it, with clients that leave: what occurs
there may occur here.
"""

import contextlib
import contextvars
import functools
import gc
import logging
import sys
from functools import partial

import anyio
import pytest
from support.harness import World, http, run, settle

from keepalive import AbortController, KeepaliveMiddleware

pytest.importorskip("fastapi")

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

try:
    from fastapi.sse import EventSourceResponse
except ImportError:  # before FastAPI 0.135
    EventSourceResponse = None

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("frozen_heap")]

STREAMS = 12
TICK = 1 / 1024
"""About a millisecond, and a number of seconds that sums of floats represent exactly."""

ABORTED_AT = 10 * TICK
ENDED_AT = 20 * TICK
VARIABLE = contextvars.ContextVar("of a generator")


def kinds(error):
    """Return the names of an error's class, or of those in a group."""
    if isinstance(error, BaseExceptionGroup):
        return set().union(*map(kinds, error.exceptions))
    return {type(error).__name__}


class Notes:
    """What the code of one stream has met."""

    def __init__(self, number, period):
        self.number = number
        self.period = period
        self.seen = []

    async def events(self):
        """Send an event each period, and hold on to what must be left in the same task."""
        task, token = anyio.get_current_task().id, VARIABLE.set("mine")
        began, sent = anyio.current_time(), 0
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 60)
                while True:
                    sent += 1
                    await anyio.sleep(began + sent * self.period - anyio.current_time())
                    for _ in range(self.number):
                        await anyio.lowlevel.checkpoint()
                    yield "data: x\n\n"
        finally:
            VARIABLE.reset(token)
            if anyio.get_current_task().id == task:
                self.seen.append("generator left in its own task")

    @contextlib.asynccontextmanager
    async def dependency(self):
        try:
            yield
        except BaseException as error:
            self.seen.append(f"dependency left by {', '.join(sorted(kinds(error)))}")
            raise
        self.seen.append("dependency left")

    async def background(self, seconds):
        await anyio.sleep(seconds)
        self.seen.append("background task ran")


def starlette_app(seconds, middleware):
    async def page(request):
        notes = request.scope["notes"]
        task = BackgroundTask(notes.background, seconds)
        return StreamingResponse(
            notes.events(), media_type="text/event-stream", background=task
        )

    return Starlette(routes=[Route("/", page)], middleware=middleware)


def fastapi_app(seconds, middleware, native=False):
    async def resource(request: Request):
        async with request.scope["notes"].dependency():
            yield

    api = FastAPI(middleware=middleware, dependencies=[Depends(resource)])

    if native:

        @api.get("/", response_class=EventSourceResponse)
        async def page(request: Request, tasks: BackgroundTasks):
            notes = request.scope["notes"]
            tasks.add_task(notes.background, seconds)
            async for event in notes.events():
                yield event

    else:

        @api.get("/")
        async def page(request: Request, tasks: BackgroundTasks):
            notes = request.scope["notes"]
            tasks.add_task(notes.background, seconds)
            return StreamingResponse(notes.events(), media_type="text/event-stream")

    return api


async def pass_on(request, call_next):
    return await call_next(request)


FUNCTION = Middleware(BaseHTTPMiddleware, dispatch=pass_on)
"""What `@app.middleware("http")` makes of `pass_on`."""

GENERATOR, DEPENDENCY, TASK = (
    "generator left in its own task",
    "dependency left",
    "background task ran",
)
ENDPOINTS = {
    "Starlette's StreamingResponse": (starlette_app, {GENERATOR, TASK}),
    "FastAPI's StreamingResponse": (fastapi_app, {GENERATOR, TASK, DEPENDENCY}),
    "FastAPI's EventSourceResponse": (
        partial(fastapi_app, native=True),
        {GENERATOR, TASK, DEPENDENCY},
    ),
}


def ended_by(how, controller):
    """Return the options that end all streams at the same time."""
    if how == "max_lifetime":
        return {"max_lifetime": ENDED_AT}
    signal = controller.signal
    abort = signal if how == "drain" else lambda _: signal
    return {"drain": ENDED_AT - ABORTED_AT, "abort": abort}


class Met:
    """What the streams, served at the same time, and their server have met."""

    def __init__(self, app, period, *, abort=lambda: None, leave_at=float("inf")):
        self.notes = [Notes(number, period * TICK) for number in range(STREAMS)]
        self.errors = []
        run("asyncio", partial(self._serve, app, abort, leave_at))
        gc.collect()

    async def _serve(self, app, abort, leave_at):
        async def call(notes):
            world = World()
            world.leave_at = leave_at
            asgi = {"version": "3.0", "spec_version": "2.3"}
            scope = http(query_string=b"", asgi=asgi, notes=notes)
            try:
                await app(scope, world.receive, world.send)
            except Exception as error:
                self.errors.append(error)

        async with anyio.create_task_group() as tasks:
            for each in self.notes:
                tasks.start_soon(call, each)
            await anyio.sleep(ABORTED_AT)
            abort()
        await settle()

    @property
    def outcomes(self):
        return [frozenset(each.seen) for each in self.notes]


@functools.cache
def of_clients_that_leave(endpoint, function, seconds):
    """Return what a stream may meet, and how many at most meet anything but what they should.

    Which turns of the loop are unlucky ones differs by a turn or two.
    """
    make, expected = ENDPOINTS[endpoint]
    app = make(seconds, [FUNCTION] if function else [])
    outcomes, most = {frozenset(expected)}, 0
    for period in (1, 5, 20):
        met = Met(app, period, leave_at=ENDED_AT)
        outcomes.update(met.outcomes)
        most = max(most, sum(outcome != expected for outcome in met.outcomes))
    return outcomes, most and max(most, 3)


@pytest.fixture
def unraisable(monkeypatch):
    """What the garbage collector meets: generators that were left to it, say."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


@pytest.mark.parametrize(
    ("period", "seconds"),
    [(1, 0), (5, 0), (20, 0), (1, 3)],
    ids=["1 ms", "5 ms", "20 ms", "1 ms, task of 3 s"],
)
@pytest.mark.parametrize("where", ["none", "inside", "outside"])
@pytest.mark.parametrize("how", ["drain", "max_lifetime", "abort"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_end_is_as_orderly_as_a_disconnect(
    endpoint, how, where, period, seconds, caplog, monkeypatch, unraisable
):
    """With `@app.middleware("http")` inside ours, outside it, or without one."""
    if EventSourceResponse is None and "EventSourceResponse" in endpoint:
        pytest.skip("this FastAPI has no EventSourceResponse")
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    make, expected = ENDPOINTS[endpoint]
    allowed, most = of_clients_that_leave(endpoint, where != "none", seconds)
    caplog.clear()
    unraisable.clear()
    caplog.set_level(logging.WARNING)
    controller = AbortController()
    own = Middleware(KeepaliveMiddleware, **ended_by(how, controller))
    rows = {"none": [own], "inside": [own, FUNCTION], "outside": [FUNCTION, own]}[where]
    met = Met(make(seconds, rows), period, abort=controller.abort)
    assert {*met.outcomes} <= allowed
    disorderly = sum(outcome != expected for outcome in met.outcomes)
    assert disorderly <= most
    assert len(met.errors) <= disorderly
    assert len(caplog.records) <= disorderly, [each.getMessage() for each in caplog.records]
    assert len(unraisable) <= disorderly
