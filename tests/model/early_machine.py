"""The state machine of `machine`, with an app that starts late, perhaps too late.

A start of the app's that comes behind the middleware's either fits, and then everything is as
for any stream, or it doesn't, and then it is reported to the client at the end.
"""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from model.machine import CALLABLES_LOGGED, Machine, TrioMachine
from support.harness import http, start

from keepalive import StopReason, StreamEnded

START_AFTER = 3.5
HEADERS = [(b"accept", b"text/event-stream")]


class Late:
    """What a machine does whose app starts when a rule says so."""

    scope = http(headers=HEADERS)
    options = {"start_after": START_AFTER}
    app_has_started = False
    logged = [*CALLABLES_LOGGED, "an app has not answered"]
    started_early = held = False

    async def app(self, scope, receive, send):
        self.meet(scope, receive, send)
        await self.obey()

    def begin_response(self):
        self.expect(not self.opened, "a second start")
        self.started_early = not self.app_has_started
        if self.asked_to_stop_at is not None:
            self.asked_to_stop_at = self.now()
        super().begin_response()
        self.note(self.reason_at_the_start)
        own = self.callables == "return" and StopReason.SHUTDOWN not in self.asked_by
        if self.noticed and own and self.asked_to_stop_at is not None:
            # It may end the stream or not, as in `note_that_all_are_to_stop`.
            self.may_stop_at = min(self.may_stop_at, self.now())
            self.asked_to_stop_at = None

    @property
    def reason_at_the_start(self):
        """The first one; a signal that a callable returns is known only now."""
        own = StopReason.ABORTED if self.callables == "return" else None
        before = [reason for reason in self.asked_by if reason is not own]
        return next(iter([*before, *self.asked_by]), None)

    async def take(self, message):
        if b"error" in message.get("body", b""):
            late = self.started_early and (self.held or not self.app_has_started)
            self.expect(late, "a summary without need")
        await super().take(message)

    @precondition(lambda self: not self.app_has_started and not self.over)
    @rule(fits=st.booleans())
    def app_starts(self, fits):
        self.app_has_started = True
        self.held = self.started_early and not fits
        status = 200 if fits else 503
        self.steps.call(self.command, start(status=status))

    @invariant()
    def what_is_buffered_is_reported_at_the_end(self):
        if self.held and self.last_taken and self.ended_by_app:
            assert b"error" in self.wire[-1][2]
            assert b'"status": 503' in self.wire[-1][2]
        for event in self.events:
            if isinstance(event, StreamEnded):
                assert event.started_by == ("middleware" if self.started_early else "app")

    async def receive(self):
        message = await super().receive()
        if message["type"] == "http.disconnect" and not self.opened:
            self.asked_by.append(StopReason.DISCONNECTED)
        return message

    @property
    def completed_by_app(self):
        """Also if its response was buffered, and nobody was left to be sent the summary."""
        return self.ended_by_app or (self.held and self.last_called)

    @property
    def is_the_apps_affair(self):
        """Also if the middleware's own start is cancelled, since the client has left."""
        return super().is_the_apps_affair or (self.started_early and self.left_by_client)

    @property
    def to_be_passed_on(self):
        return b"" if self.held else self.handed

    @invariant()
    def the_start_is_in_time(self):
        """Where nothing stands in the way: an upload, or what has stopped the stream."""
        assert self.opened or self.is_excused() or self.time <= START_AFTER

    def is_excused(self):
        uploading = self.given and self.given[-1]["more_body"]
        stopped = self.over or self.asked_by
        return not self.sends_pings or self.app_has_started or stopped or uploading

    @invariant()
    def a_limit_before_the_answer_is_reported(self):
        kinds = [kind for _, kind, _ in self.wire]
        if self.started_early and not self.app_has_started:
            assert "farewell" not in kinds
            if self.last_taken and not self.ended_by_app and kinds and kinds[-1] == "summary":
                assert b'"status": 504' in self.wire[-1][2]


class AskedInBody(Late):
    """A client that asks for events in its request's body, which the app may read."""

    scope = http(method="POST", headers=[])
    body = b'{"stream": true}'

    async def begin(self):
        size = -(-len(self.body) // len(self.requests))
        for number, message in enumerate(self.requests):
            message["body"] = self.body[number * size : (number + 1) * size]
        await super().begin()

    @property
    def has_read_all(self):
        requests = [each for each in self.received if each["type"] == "http.request"]
        return b"".join(each["body"] for each in requests) == self.body

    def begin_response(self):
        super().begin_response()
        self.expect(self.has_read_all or not self.started_early, "started by an unread body")

    def is_excused(self):
        return super().is_excused() or not self.has_read_all


class EarlyMachine(Late, Machine):
    """On asyncio."""


class EarlyTrioMachine(Late, TrioMachine):
    """On trio."""


class AskedInBodyMachine(AskedInBody, Machine):
    """On asyncio."""


class AskedInBodyTrioMachine(AskedInBody, TrioMachine):
    """On trio."""
