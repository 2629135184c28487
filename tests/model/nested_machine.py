"""The state machine of `machine`, with other middlewares around the one that it observes.

The innermost one that does not exclude the path sends the pings; the machine observes that
one, or the innermost one around a middleware that excludes the path. The others have options,
signals and owners of their own: their stops travel inwards, and the first end wins. Options
are drawn for each of them, so that all pairs of an outer and an inner option are tried.
"""

import math

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from model.machine import Machine, TrioMachine, group
from support.harness import settle
from support.internals import APP_EXIT_TIMEOUT

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason, StreamEnded

LIMITS = {
    "drain": st.sampled_from([None, 0, 2.25, 9.5]),
    "max_lifetime": st.sampled_from([None, None, 5.5, 40.25]),
    "max_silence": st.sampled_from([None, None, 4.5, 21.25]),
    "send_timeout": st.sampled_from([None, None, 1.75, 8]),
}
"""Shorter and longer times than those of the stream that is observed."""

OTHER = {
    "interval": st.sampled_from([1, 4, 6]),
    "pacing": st.sampled_from(["idle", "steady"]),
    "first_ping": st.sampled_from([None, 0]),
    "anti_buffering": st.booleans(),
    **LIMITS,
}


def exclude(scope):
    return None


def raise_something(scope):
    raise group()


class Other:
    """Another middleware, with a signal and an observer of its own."""

    def __init__(self, app, options, routes, *, excludes):
        self.options, self.excludes = options, excludes
        self.controller, self.events = AbortController(), []
        ends = any(options[name] is not None for name in LIMITS if name != "send_timeout")
        self.middleware = KeepaliveMiddleware(
            app, abort=self.controller.signal, observer=self.events.append, routes=routes,
            ping=Ping.event("other"), farewell=Ping.event("bye") if ends else None, **options,
        )  # fmt: skip
        self.asked_to_stop_at = self.may_stop_at = math.inf

    def option(self, name):
        """Return an option that has an effect, or `None`."""
        return None if self.excludes else self.options[name]


class Nested:
    """What a machine does whose middleware has others around it, and perhaps one within."""

    # After an end by an outer one, an inner one may end as well while the app still reacts.
    exit_timeout = 2 * APP_EXIT_TIMEOUT
    # An outer one may end what an inner one has given up.
    reasons_to_end = (*Machine.reasons_to_end, StopReason.SEND_TIMEOUT)

    def app_within(self):
        """Return the app, or a middleware that excludes the path, so that none pings."""
        self.others = []  # around it, from the nearest
        self.sends_pings = self.draw(st.sampled_from([True, True, True, False]), "pings")
        if self.sends_pings:
            return self.app
        return self.other(self.app, excludes=True).middleware

    def around(self, middleware):
        for _ in range(self.draw(st.integers(0, 2), "around")):
            excludes = self.draw(st.sampled_from([False, False, False, True]), "excludes")
            self.others.append(self.other(middleware, excludes=excludes))
            middleware = self.others[-1].middleware
        return middleware

    def other(self, app, *, excludes):
        options = self.draw(st.fixed_dictionaries(OTHER), "options")
        values = [{"/": None}, exclude] if excludes else [None, {"/x": None}, raise_something]
        routes = self.draw(st.sampled_from(values), "routes")
        return Other(app, options, routes, excludes=excludes)

    # The limits of all of them

    def of_the_others(self, name):
        values = [other.option(name) for other in self.others]
        return [value for value in values if value is not None]

    @property
    def lifetimes(self):
        others = [self.opened_at + value for value in self.of_the_others("max_lifetime")]
        return [*super().lifetimes, *others]

    @property
    def silences(self):
        if self.noticed:
            return []
        others = [self.silent_from + value for value in self.of_the_others("max_silence")]
        return [*super().silences, *others]

    @property
    def send_timeouts(self):
        return [*super().send_timeouts, *self.of_the_others("send_timeout")]

    @property
    def drains(self):
        return [*super().drains, *self.drains_since("asked_to_stop_at")]

    @property
    def possible_drains(self):
        return [*super().possible_drains, *self.drains_since("may_stop_at")]

    def drains_since(self, name):
        drains = [(getattr(each, name), each.option("drain")) for each in self.others]
        ends = [asked + drain for asked, drain in drains if drain is not None]
        return [end for end in ends if end < math.inf]

    @property
    def may_say_farewell(self):
        return self.farewell is not None or any(not each.excludes for each in self.others)

    @property
    def must_say_farewell(self):
        return self.farewell is not None

    def possible_sizes(self, sent):
        """An outer one may have added a farewell, or have discarded what this one has sent."""
        farewell = sum(len(data) for _, kind, data in sent if kind == "farewell")
        (size,) = super().possible_sizes(sent)
        if self.of_the_others("send_timeout"):
            discarded = len(self.handed)
        else:
            discarded = 0 if self.ended_by_app else self.last_size
        return range(size - farewell, size + discarded + 1)

    # Stops

    @precondition(lambda self: any(not other.excludes for other in self.others))
    @rule(data=st.data(), how=st.sampled_from(["abort", "shutdown"]))
    def another_stops(self, data, how):
        """By its own signal or owner: the pings stop, and each within it drains."""
        stopping = data.draw(st.sampled_from([x for x in self.others if not x.excludes]))
        stops = {"abort": StopReason.ABORTED, "shutdown": StopReason.SHUTDOWN}

        async def stop_it():
            if self.opened and not self.over:
                self.note_a_stop(stopping, stops[how])
            elif not self.over:
                self.stop_before_the_start(stopping, stops[how])
            stopping.controller.abort() if how == "abort" else stopping.middleware.shutdown()
            await settle()

        self.steps.call(stop_it)

    def note_a_stop(self, stopping, reason):
        now, is_first = self.now(), self.reason is None
        stopping.asked_to_stop_at = min(stopping.asked_to_stop_at, now)
        for other in self.others[: self.others.index(stopping)]:
            other.may_stop_at = min(other.may_stop_at, now)  # if it has no other reason yet
            if is_first:
                other.asked_to_stop_at = min(other.asked_to_stop_at, now)
        if is_first:
            self.note(reason)
            if self.asked_to_stop_at is None:
                self.asked_to_stop_at = now

    def stop_before_the_start(self, stopping, reason):
        """Nothing stops before there is a stream."""

    async def check_end(self):
        await super().check_end()
        for other in self.others:
            kinds = [type(event).__name__ for event in other.events]
            opened = self.opened and not other.excludes
            whole = ["StreamStarted", "StreamEnded"] * opened
            # A start that an inner one has given up was cancelled, to those around it.
            given_up = [] if self.start_blocks else whole
            assert kinds in (whole, given_up)
            ends = [event for event in other.events if isinstance(event, StreamEnded)]
            assert [event.pings for event in ends] == [0] * len(ends)


class NestedMachine(Nested, Machine):
    """On asyncio."""


class NestedTrioMachine(Nested, TrioMachine):
    """On trio."""
