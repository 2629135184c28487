"""The state machine of `test_machine`, with an app in one to three nested middlewares.

The innermost one keeps the stream alive, unless it excludes the path. The other ones have
options, signals and owners of their own, which have no effect: the stream is not theirs.
"""

from unittest.mock import patch

import pytest
from harness import settle
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from test_early_machine import Late, run
from test_machine import Machine, TrioMachine, group

from keepalive import AbortController, KeepaliveMiddleware, Ping

OTHER = {
    "interval": st.sampled_from([1, 4, 6]),
    "pacing": st.sampled_from(["idle", "steady"]),
    "first_ping": st.sampled_from([None, 0]),
    "drain": st.sampled_from([None, 0, 2.25]),
    "max_lifetime": st.sampled_from([None, 5.5]),
    "send_timeout": st.sampled_from([None, 1.75]),
    "anti_buffering": st.booleans(),
}
"""Options of the other middlewares: shorter times than those of the stream's own."""


def exclude(scope):
    return None


def raise_something(scope):
    raise group()


class Nested:
    """What a machine does whose middleware has others around it, and perhaps one within."""

    def app_within(self):
        """Return the app, or a middleware that excludes the path, so that none keeps it."""
        self.others, self.other_events = [], []
        self.kept = self.draw(st.sampled_from([True, True, True, False]), "kept")
        return self.app if self.kept else self.other(self.app, excludes=True)

    def around(self, middleware):
        for _ in range(self.draw(st.integers(0, 2 if self.kept else 1), "around")):
            excludes = self.draw(st.sampled_from([False, False, True]), "excludes")
            middleware = self.other(middleware, excludes=excludes)
        return middleware

    def other(self, app, *, excludes):
        options = self.draw(st.fixed_dictionaries(OTHER), "options")
        if options["drain"] is not None:
            options["farewell"] = Ping.event("other")
        values = [{"/": None}, exclude] if excludes else [None, {"/x": None}, raise_something]
        routes = self.draw(st.sampled_from(values), "routes")
        controller = AbortController()
        middleware = KeepaliveMiddleware(
            app, abort=controller.signal, observer=self.other_events.append, routes=routes,
            ping=Ping.event("other"), **options,
        )  # fmt: skip
        self.others.append((controller, middleware))
        return middleware

    @precondition(lambda self: self.others)
    @rule(data=st.data())
    def another_stops(self, data):
        """By its own signal or owner: that stops none of its streams, as it has none."""
        controller, middleware = data.draw(st.sampled_from(self.others))
        stop = data.draw(st.sampled_from([controller.abort, middleware.shutdown]))

        async def stop_it():
            stop()
            await settle()

        self.steps.call(stop_it)

    @invariant()
    def the_others_keep_nothing(self):
        assert self.other_events == []
        if not self.kept:
            assert self.events == []


class NestedMachine(Nested, Machine):
    """On asyncio."""


class NestedTrioMachine(Nested, TrioMachine):
    """On trio."""


class NestedEarlyMachine(Nested, Late, Machine):
    """With an early start by the middleware that keeps the stream."""


@pytest.mark.timeout(300)
@patch("random.uniform", lambda _, most: most)
def test_on_asyncio():
    run(NestedMachine, 100, 30)
    run(NestedEarlyMachine, 80, 30)


@pytest.mark.timeout(300)
@patch("random.uniform", lambda _, most: most)
def test_on_trio():
    run(NestedTrioMachine, 80, 25)
