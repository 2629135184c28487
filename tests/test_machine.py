"""A state machine plays app, server, client and owner against each other, one step at a time.

The model notes what the server saw and when; the invariants are read off the wire.
"""

import math
import threading
from contextvars import copy_context
from unittest.mock import patch

import anyio
import pytest
import trio
import trio.testing
from harness import VirtualLoop, body, http, scheduled_streams, settle, start, tasks_left
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from test_boundary import is_at

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    StopReason,
    StreamEnded,
    StreamStarted,
    stream,
)
from keepalive._eventloop import current_loop
from keepalive._inflight import APP_EXIT_TIMEOUT

PINGS = {
    "event": Ping.event("p", "p"),
    "comment": Ping.comment("p"),
}
BYE = b"event: bye\ndata: \n\n"
CHUNKS = ["data: a\n", "data: b\n\n", "\n", "x", "\r\n", "\r", "", "data: c\r\n\r\n"]


class Boom(Exception):
    pass


class AsyncioSteps:
    """Runs one coroutine function after the other on asyncio; no time passes in between."""

    def __init__(self):
        self._loop = VirtualLoop()

    def call(self, function, *args):
        return self._loop.run_until_complete(function(*args))

    def sleep(self, delay):
        self.call(anyio.sleep, delay)

    def close(self):
        self._loop.close()


class TrioSteps:
    """The same on trio, in a thread; its clock stands still but in `sleep`."""

    def __init__(self):
        self._clock = trio.testing.MockClock()
        self._running = threading.Event()
        self._thread = threading.Thread(
            target=trio.run, args=(self._main,), kwargs={"clock": self._clock}
        )
        self._thread.start()
        self._running.wait()

    async def _main(self):
        self._token, self._over = trio.lowlevel.current_trio_token(), trio.Event()
        self._running.set()
        await self._over.wait()

    def call(self, function, *args):
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def sleep(self, delay):
        async def jump():
            for _ in range(4 * delay):  # a quarter at a time: nothing here is due in between
                self._clock.jump(0.25)
                await trio.testing.wait_all_tasks_blocked()

        self.call(jump)

    def close(self):
        trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()


class Machine(RuleBasedStateMachine):
    steps_class = AsyncioSteps
    scope = http()
    options = {}
    app_has_started = True

    @initialize(
        interval=st.sampled_from([5, 8]),
        pacing=st.sampled_from(["idle", "steady"]),
        ping=st.sampled_from([*PINGS]),
        first=st.sampled_from([None, 0, 3]),
        uploads=st.integers(0, 3),
        drain=st.sampled_from([None, 0, 6.25]),
        max_lifetime=st.sampled_from([None, None, 30.5]),
        send_timeout=st.sampled_from([None, 4.75]),
        farewell=st.booleans(),
    )
    def open(
        self,
        interval,
        pacing,
        ping,
        first,
        uploads,
        drain,
        max_lifetime,
        send_timeout,
        farewell,
    ):
        self.steps = self.steps_class()
        self.interval, self.pacing, self.first = interval, pacing, first
        self.ping = PINGS[ping]
        self.time = 0
        self.wire = []  # (time, "app" | "ping", bytes)
        self.events, self.received, self.given = [], [], []
        self.requests = [
            {"type": "http.request", "body": b"%d" % n, "more_body": n < uploads}
            for n in range(uploads + 1)
        ]
        self.reason = None
        self.drain, self.max_lifetime, self.send_timeout = drain, max_lifetime, send_timeout
        farewell = (
            Ping.event("bye") if farewell and (drain is not None or max_lifetime) else None
        )
        self.farewell = farewell
        self.asked_to_stop_at = self.asked_by = self.sending_since = None
        self.opened_on = 0
        self.ended_by_app = self.left_by_client = False
        self.opened = self.last_handed = self.last_taken = self.over = False
        self.raised = None
        self.sent_at_end = []
        self.ending = False  # the app is to send its last body
        self.ping_error = None
        self.blocked_since = None
        self.abort, self.handed = AbortController(), b""
        self.middleware = KeepaliveMiddleware(
            self.app, interval, pacing=pacing, ping=self.ping, first=first,
            abort=self.abort.signal, observer=self.observe, drain=drain,
            max_lifetime=max_lifetime, send_timeout=send_timeout, farewell=farewell,
            **self.options,
        )  # fmt: skip
        self.steps.call(self.begin)

    # the world

    async def begin(self):
        self.left, self.gate = anyio.Event(), anyio.Event()
        self.gate.set()
        self.commands, self.inlet = [], anyio.Event()
        self.loop = current_loop()
        self.sends = self.reads = self.asks = 0
        # Tasks of the steps, not of a task group: a group can't span two steps' calls.
        self.spawn(self.serve)
        await settle()

    def spawn(self, function):
        self.loop.spawn(function, copy_context(), lambda: None)

    async def serve(self):
        try:
            await self.middleware({**self.scope}, self.receive, self.send)
        except BaseException as error:
            self.raised = error
        finally:
            self.over = True

    async def app(self, scope, receive, send):
        self.ask = receive
        signal = stream(scope).signal
        signal.add_callback(lambda: self.on_stop(signal.reason))
        await send(start())
        await self.obey(send)

    async def obey(self, send):
        """Do what the rules say."""
        while True:
            while not self.commands:
                self.inlet = anyio.Event()
                await self.inlet.wait()
            command = self.commands.pop(0)
            if command == "return":
                return
            if command == "raise":
                self.note(StopReason.APP_FAILED)
                raise Boom
            await send(command)

    def on_stop(self, reason):
        """Record why the stream stops; of its limits the model knows only when they may."""
        if reason is StopReason.MAX_LIFETIME:
            assert self.now() >= self.opened_at + self.max_lifetime
            self.note(reason)
        elif reason is StopReason.SEND_TIMEOUT:
            assert self.now() >= self.sending_since + self.send_timeout
            self.note(reason)

    def now(self):
        return self.loop.time()

    async def receive(self):
        self.reads += 1
        assert self.reads == 1, "two readers"
        # `ask`, below, is the app's own; anybody else has to wait for the start
        assert self.opened or self.asks, "the server was asked before the response started"
        try:
            if self.requests:
                self.given.append(self.requests.pop(0))
                return self.given[-1]
            await self.left.wait()
        finally:
            self.reads -= 1
        if not self.last_handed:
            self.note(StopReason.DISCONNECTED)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sends += 1
        assert self.sends == 1, "two sends at once"
        self.sending_since = self.now()
        try:
            await self.take(message)
        finally:
            self.sends -= 1

    async def take(self, message):
        if message["type"] == "http.response.start":
            self.opened, self.opened_at = True, self.now()
            return
        assert not self.last_taken, "a message after the last body"
        data = message.get("body", b"")
        last = not message.get("more_body", False)
        is_ping = message.get("more_body") and b"p" in data
        is_farewell = data.replace(b"\r\n", b"\n") == BYE
        self.last_handed |= last
        of_the_app = "app" in message or b"error" in data
        if is_farewell or (last and not of_the_app):
            self.check_the_middlewares_end()
        if is_ping:
            assert self.reason is None, f"a ping was begun after {self.reason}"
            assert not self.left.is_set() or not self.noticed, "a ping after the disconnect"
        await self.gate.wait()
        if is_ping and self.ping_error:
            error, self.ping_error = self.ping_error, None
            kind = StopReason.DISCONNECTED if isinstance(error, OSError) else None
            self.note(kind or StopReason.WRITE_FAILED)
            raise error
        if data:
            kind = "summary" if b"error" in data else "app"
            kind = "farewell" if is_farewell else "ping" if is_ping else kind
            self.wire.append((self.time, kind, data))
        if last:
            self.last_taken, self.ended_by_app = True, of_the_app
            self.note(StopReason.COMPLETED)
            self.left.set()

    def check_the_middlewares_end(self):
        """Nothing is ended before its time, nor for who has left."""
        assert self.reason in (
            StopReason.ABORTED, StopReason.SHUTDOWN, StopReason.MAX_LIFETIME,
            StopReason.WRITE_FAILED,
        )  # fmt: skip
        assert not (self.left.is_set() and self.noticed)
        drained = lived = math.inf
        if self.asked_to_stop_at is not None and self.drain is not None:
            drained = self.asked_to_stop_at + self.drain
        if self.max_lifetime is not None:
            lived = self.opened_at + self.max_lifetime
        assert self.now() >= min(drained, lived)

    @property
    def noticed(self):
        return self.reason is StopReason.DISCONNECTED

    def observe(self, event):
        assert not self.sent_at_end, "an event after the end"
        self.events.append(event)
        if isinstance(event, StreamEnded):
            self.sent_at_end = [*self.wire, None]

    def note(self, reason):
        if self.reason is None and self.opened:
            self.reason = reason

    async def command(self, command):
        self.commands.append(command | {"app": True})
        self.inlet.set()
        await settle()

    # the steps

    @precondition(lambda self: self.app_has_started and not self.ending)
    @rule(data=st.sampled_from(CHUNKS))
    def app_sends(self, data):
        self.handed += data.encode()
        self.steps.call(self.command, body(data.encode()))

    @precondition(lambda self: self.app_has_started and not self.ending)
    @rule(data=st.sampled_from(["", "data: z\n\n"]))
    def app_ends(self, data):
        self.ending = True
        self.handed += data.encode()
        self.steps.call(self.command, body(data.encode(), more=False))

    @rule()
    def app_asks(self):
        async def ask():
            self.asks += 1
            try:
                self.received.append(await self.ask())
            finally:
                self.asks -= 1

        async def begin():
            if not self.asks:
                self.spawn(ask)
            await settle()

        self.steps.call(begin)

    @rule(delay=st.integers(1, 20))
    def time_passes(self, delay):
        for _ in range(delay):
            self.time += 1
            self.steps.sleep(1)
            self.steps.call(settle)
            self.is_alive_or_excused()
            self.has_ended_within_its_limit()

    @rule()
    def client_leaves(self):
        async def leave():
            self.left_by_client |= not self.last_taken
            self.left.set()
            await settle()

        self.steps.call(leave)

    def note_that_all_are_to_stop(self, reason):
        self.note(reason)
        if self.asked_to_stop_at is None:
            self.asked_to_stop_at = self.now()
            self.asked_by = self.asked_by or reason

    @rule()
    def signal_aborts(self):
        async def abort():
            self.note_that_all_are_to_stop(StopReason.ABORTED)
            self.abort.abort()
            await settle()

        self.steps.call(abort)

    @rule()
    def owner_shuts_down(self):
        async def shut_down():
            self.note_that_all_are_to_stop(StopReason.SHUTDOWN)
            self.middleware.shutdown()
            await settle()

        self.steps.call(shut_down)

    @rule()
    def sends_block(self):
        if self.blocked_since is None:
            self.blocked_since = self.time
            self.gate = self.steps.call(self.new_event)

    async def new_event(self):
        return anyio.Event()

    @rule()
    def sends_go_on(self):
        async def release():
            self.gate.set()
            await settle()

        self.blocked_since = None
        self.steps.call(release)

    @rule(error=st.sampled_from([ValueError, OSError]))
    def next_ping_fails(self, error):
        self.ping_error = error()

    @precondition(lambda self: self.blocked_since is None)
    @rule(how=st.sampled_from(["raise", "return"]))
    def app_is_over(self, how):
        async def end():
            if how == "return":
                self.note(StopReason.COMPLETED)
            self.commands.append(how)
            self.inlet.set()
            await settle()

        if not self.over:
            self.steps.call(end)

    # what must hold

    def is_alive_or_excused(self):
        """In idle pacing, no silence is longer than the interval while a ping may be sent."""
        sent = b"".join(data for _, kind, data in self.wire if kind == "app")
        if (
            self.reason is None
            and self.opened
            and self.blocked_since is None
            and not self.left.is_set()
            and not self.last_handed
            and is_at(sent, self.ping.at)
        ):
            last = max((when for when, *_ in self.wire), default=-math.inf)
            since = self.time - max(last, self.opened_on)
            first = self.interval if self.first is None else self.first
            allowed = self.interval if self.wire else first
            assert since <= allowed, f"silent for {since} s"

    async def read_the_clock(self):
        return self.now()

    def has_ended_within_its_limit(self):
        """What the middleware is to end is over, the app's call too, one step later."""
        now = self.steps.call(self.read_the_clock)
        limits = [math.inf]
        if not self.opened:
            return
        if self.asked_to_stop_at is not None and self.drain is not None:
            limits.append(self.asked_to_stop_at + self.drain)
        if self.max_lifetime is not None and not (self.left_by_client or self.noticed):
            limits.append(self.opened_at + self.max_lifetime)
        if self.send_timeout is not None and self.sends:
            limits.append(self.sending_since + self.send_timeout)
        # An app that knows of the disconnect is left alone, as after any disconnect.
        notified = any(message["type"] == "http.disconnect" for message in self.received)
        if not (self.ended_by_app or notified) and now > min(limits) + APP_EXIT_TIMEOUT:
            assert self.over, f"goes on at {now}, to be ended by {limits}"

    @invariant()
    def what_the_middleware_ends_ends_well(self):
        """A farewell stands at an event boundary, and goes before the last body alone."""
        sent = b"".join(data for _, kind, data in self.wire if kind == "app")
        farewells = [data for _, kind, data in self.wire if kind == "farewell"]
        if farewells:
            assert self.farewell is not None
            crlf = b"\r\n" in sent
            assert farewells == [BYE.replace(b"\n", b"\r\n" if crlf else b"\n")]
            assert self.wire[-1][1] == "farewell"
            assert is_at(sent, "event")
        elif self.last_taken and not self.ended_by_app and self.farewell is not None:
            assert not is_at(sent, "event"), "the farewell is missing"

    @invariant()
    def pings_stand_at_boundaries(self):
        sent = b""
        for _, kind, data in self.wire:
            if kind == "ping":
                crlf = b"\r\n" in sent
                assert data == self.ping.payload.replace(b"\n", b"\r\n" if crlf else b"\n")
                assert is_at(sent, self.ping.at), (sent, self.ping)
            elif kind == "app":
                sent += data

    @invariant()
    def pings_are_not_doubled(self):
        """In idle pacing, two pings without data between them are an interval apart."""
        last = None
        for when, kind, _ in self.wire:
            if kind == "ping" and last is not None and self.pacing == "idle":
                assert when - last >= self.interval
            last = when if kind == "ping" else None

    @invariant()
    def app_bytes_are_unchanged_and_in_order(self):
        sent = b"".join(data for _, kind, data in self.wire if kind == "app")
        assert self.handed.startswith(sent)

    @invariant()
    def no_request_is_lost(self):
        requests = [message for message in self.received if message["type"] == "http.request"]
        assert requests == self.given[: len(requests)]
        assert len(self.given) - len(requests) <= 1

    @invariant()
    def the_reason_is_the_first_one(self):
        ended = [event for event in self.events if isinstance(event, StreamEnded)]
        assert len(ended) <= 1
        for event in ended:
            assert event.reason is self.reason
            sent = self.sent_at_end[:-1]
            assert event.pings == len([data for _, kind, data in sent if kind == "ping"])
            assert event.bytes_sent == sum(len(data) for _, _, data in sent)

    def teardown(self):
        if not hasattr(self, "steps"):
            return
        try:
            self.sends_go_on()
            if not self.over:
                self.app_is_over("return")
            self.steps.call(settle)
            self.steps.call(self.check_end)
        finally:
            self.steps.close()

    async def check_end(self):
        assert self.over
        assert self.raised is None or type(self.raised) is Boom
        assert scheduled_streams() == 0
        self.left.set()  # whoever still asks the server's own receive
        await settle()
        assert tasks_left() - self.extra_tasks() == 0
        kinds = [
            type(event) for event in self.events if type(event) in (StreamStarted, StreamEnded)
        ]
        assert kinds == [StreamStarted, StreamEnded] * self.opened
        self.the_reason_is_the_first_one()
        if self.ended_by_app:
            sent = b"".join(data for _, kind, data in self.wire if kind == "app")
            assert sent == self.to_be_passed_on

    @property
    def to_be_passed_on(self):
        return self.handed

    def extra_tasks(self):
        return 0


class TrioMachine(Machine):
    steps_class = TrioSteps

    def extra_tasks(self):
        return self.portal_tasks

    async def begin(self):
        await settle()
        self.portal_tasks = tasks_left()
        await super().begin()


@pytest.mark.timeout(300)
@patch("random.uniform", lambda _, most: most)
def test_on_asyncio():
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=150, stateful_step_count=30, deadline=None)
    )


@pytest.mark.timeout(300)
@patch("random.uniform", lambda _, most: most)
def test_on_trio():
    run_state_machine_as_test(
        TrioMachine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )
