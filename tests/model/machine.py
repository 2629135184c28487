"""A state machine plays app, server, client and owner against each other, one step at a time.

The model notes what the server saw and when; the invariants are read off the wire.

The app has a main task, which executes commands, a task that receives, and tasks that send
beside the main one. The server completes one send after the other; it may block, and its sends
may resist their cancellation for a while. The user's callables may raise anything.
"""

import asyncio
import logging
import math
import threading
from contextlib import suppress
from contextvars import copy_context
from unittest.mock import patch

import anyio
import trio
import trio.testing
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
from support.event_streams import is_at
from support.harness import (
    VirtualLoop,
    body,
    http,
    scheduled_streams,
    settle,
    start,
    tasks_left,
)
from support.internals import APP_EXIT_TIMEOUT, LOGGER, current_loop

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)

PINGS = {
    "event": lambda text: Ping.event("p", text),
    "comment": Ping.comment,
}
BYE = b"event: bye\ndata: \n\n"
CHUNKS = ["data: a\n", "data: b\n\n", "\n", "x", "\r\n", "\r", "", "data: c\r\n\r\n"]


CALLABLES_LOGGED = [
    "the observer raised",
    "an abort callback raised",
    "the abort callable failed",
    "the routes callable failed",
    "a ping's callable failed",
]
WITHIN = 0.5
"""Seconds after the end in which an app that was notified may still send."""


class Boom(Exception):
    pass


class Outcome(BaseException):
    """As pytest's outcomes are, of `pytest.fail()` and `pytest.skip()`."""


def group():
    return BaseExceptionGroup("several", [Outcome(), asyncio.CancelledError()])


ERRORS = [ValueError, Outcome, asyncio.CancelledError, GeneratorExit, group]
"""What a user's callable raises."""


def boom():
    return Boom()


def boom_by_itself():
    error = Boom()
    error.__cause__ = error
    return error


def boom_in_a_circle():
    first, second = Boom("first"), LookupError("second")
    first.__cause__, second.__context__ = second, first
    return first


def group_in_a_circle():
    error = Boom()
    error.__cause__ = ExceptionGroup("several", [error, boom_by_itself()])
    return error.__cause__


BOOMS = [boom, boom_by_itself, boom_in_a_circle, group_in_a_circle]
"""The app's own errors."""


def raise_as_it_is(error):
    raise error


def raise_from_itself(error):
    raise error from error


def raise_from_its_translation(error):
    try:
        raise RuntimeError("translated") from error
    except RuntimeError as translated:
        raise error from translated


RAISES = [raise_as_it_is, raise_from_itself, raise_from_its_translation]
"""What the app does with an `OSError` of a send."""


class AsyncioSteps:
    """Runs one coroutine function after the other on asyncio; no time passes in between."""

    def __init__(self):
        self._loop = VirtualLoop()

    def call(self, function, *args):
        return self._loop.run_until_complete(self._step(function, *args))

    async def _step(self, function, *args):
        result = await function(*args)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
            if not self._loop._ready:  # until nothing goes on
                break
        return result

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
        async def step():
            result = await function(*args)
            await trio.testing.wait_all_tasks_blocked()  # nothing goes on beside the steps
            return result

        return trio.from_thread.run(step, trio_token=self._token)

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
    app_has_started = sends_pings = True
    logged = CALLABLES_LOGGED
    exit_timeout = APP_EXIT_TIMEOUT
    reasons_to_end = (
        StopReason.ABORTED, StopReason.SHUTDOWN, StopReason.MAX_LIFETIME, StopReason.SILENT,
        StopReason.WRITE_FAILED,
    )  # fmt: skip

    @initialize(
        interval=st.sampled_from([5, 8]),
        pacing=st.sampled_from(["idle", "steady"]),
        ping=st.sampled_from([*PINGS]),
        first_ping=st.sampled_from([None, 0, 3]),
        uploads=st.integers(0, 3),
        drain=st.sampled_from([None, 0, 6.25]),
        max_lifetime=st.sampled_from([None, None, 30.5]),
        max_silence=st.sampled_from([None, None, 13.75]),
        send_timeout=st.sampled_from([None, 4.75]),
        farewell=st.booleans(),
        listens=st.booleans(),
        goes_on=st.sampled_from([None, 0.25, 0.75, 0.75, 1.5]),
        start_blocks=st.booleans(),
        resistance=st.sampled_from([0, 0, 0.5, 3]),
        callables=st.sampled_from(["none", "return", *ERRORS]),
        raise_again=st.sampled_from(RAISES),
        when_cancelled=st.sampled_from([None, *BOOMS[:3]]),
        data=st.data(),
    )
    def open(
        self,
        interval,
        pacing,
        ping,
        first_ping,
        uploads,
        drain,
        max_lifetime,
        max_silence,
        send_timeout,
        farewell,
        listens,
        goes_on,
        start_blocks,
        resistance,
        callables,
        raise_again,
        when_cancelled,
        data,
    ):
        self.draw = data.draw
        self.steps = self.steps_class()
        self.interval, self.pacing, self.first_ping = interval, pacing, first_ping
        self.make_ping = PINGS[ping]
        self.ping, self.payload = self.make_ping(self.text), None
        self.start_blocks, self.resistance, self.callables = (
            start_blocks,
            resistance,
            callables,
        )
        self.listens, self.goes_on = listens, goes_on
        self.raise_again, self.when_cancelled = raise_again, when_cancelled
        self.time = 0
        self.wire = []  # (time, "app" | "ping", bytes)
        self.events, self.received, self.given = [], [], []
        self.requests = [
            {"type": "http.request", "body": b"%d" % n, "more_body": n < uploads}
            for n in range(uploads + 1)
        ]
        self.reason = None
        self.drain, self.max_lifetime, self.send_timeout = drain, max_lifetime, send_timeout
        self.max_silence = max_silence
        ends = drain is not None or max_lifetime or max_silence
        self.farewell = farewell = Ping.event("bye") if farewell and ends else None
        self.data_sent_at = self.app_sent_at = math.inf
        self.app_sends_under_way = 0
        self.asked_to_stop_at, self.asked_by = None, []
        self.may_stop_at = math.inf
        self.sends = {}  # under way in the server: message -> since when
        self.opened_on = 0
        self.opened_at = math.inf
        self.ended_by_app = self.left_by_client = False
        self.opened = self.last_handed = self.last_taken = self.over = False
        self.start_returned = False
        self.raised = self.own_error = self.ask_scope = None
        self.notified = self.polled = False  # the app: see `is_listening`
        self.last_send = -math.inf  # of the app
        self.cancelled_at = None  # the app
        self.notified_at = math.inf
        self.write_failed = self.last_called = False
        self.last_size = 0  # of the app's last body
        self.only_one = False  # of the sends is to go on
        self.sends_beside = 0
        self.given_up_at = math.inf  # a send that took too long
        self.too_silent_at = math.inf  # what is sent behind that may not prevent the end
        self.ended_at = math.inf  # the last body was the middleware's
        self.earliest_limit = math.inf  # of those that have passed
        self.violations = []  # noted, where an error would be the app's own
        self.errors_to_raise = {}
        self.sent_at_end = []
        self.ending = False  # the app is to send its last body
        self.ping_error = None
        self.abort, self.handed = AbortController(), b""
        self.middleware = KeepaliveMiddleware(
            self.app_within(), interval, pacing=pacing, ping=self.ping, first_ping=first_ping,
            abort=self.abort.signal if callables == "none" else self.choose_signal,
            routes=None if callables == "none" else self.choose_route,
            observer=self.observe, drain=drain,
            max_lifetime=max_lifetime, max_silence=max_silence, send_timeout=send_timeout,
            farewell=farewell,
            **self.options,
        )  # fmt: skip
        self.outermost = self.around(self.middleware)
        LOGGER.addFilter(self.check_log)
        self.steps.call(self.begin)

    def check_log(self, record):
        """Note what is logged of anything but what the user's callables raise."""
        expected = record.getMessage() in self.logged or record.levelno < logging.WARNING
        self.expect(expected, record.getMessage())
        return False

    def expect(self, condition, otherwise):
        """Note a violation, where an error would be swallowed or become another's."""
        if not condition:
            self.violations.append(otherwise)

    def app_within(self):
        """Return what the middleware wraps."""
        return self.app

    def around(self, middleware):
        """Return what the server calls."""
        return middleware

    # the user's callables

    def choose_signal(self, scope):
        if self.callables != "return":
            raise self.callables()
        return self.abort.signal

    def choose_route(self, scope):
        if self.callables != "return":
            raise self.callables()
        return self.interval

    def text(self):
        self.payload = self.ping.payload  # without its text
        self.raise_if_asked("text")
        self.payload = self.make_ping("p").payload
        return "p"

    def raise_if_asked(self, who):
        if error := self.errors_to_raise.pop(who, None):
            raise error()

    # the world

    async def begin(self):
        self.left, self.gate = anyio.Event(), anyio.Event()
        self.blocked_since = 0 if self.start_blocks else None
        if not self.start_blocks:
            self.gate.set()
        self.commands, self.inlet = [], anyio.Event()
        self.loop, self.lock = current_loop(), anyio.Lock()
        self.cancelled_class = anyio.get_cancelled_exc_class()
        self.reads = self.asks = 0
        # Tasks of the steps, not of a task group: a group can't span two steps' calls.
        self.spawn(self.serve)
        await settle()

    def spawn(self, function):
        self.loop.spawn(function, copy_context(), lambda: None)

    async def serve(self):
        try:
            await self.outermost({**self.scope}, self.receive, self.send)
        except BaseException as error:
            self.raised = error
        finally:
            self.over = True

    async def app(self, scope, receive, send):
        self.meet(scope, receive, send)
        await self.obey(start())

    def meet(self, scope, receive, send):
        self.app_receive, self.app_send = receive, send
        signal = get_stream(scope).signal
        signal.add_callback(lambda: self.on_stop(signal.reason))
        if self.listens:
            self.spawn(self.listen)

    async def obey(self, *commands):
        """Do what the rules say."""
        self.commands[:0] = commands
        try:
            while True:
                while not self.commands:
                    self.inlet = anyio.Event()
                    await self.inlet.wait()
                command = self.commands.pop(0)
                if command == "return":
                    self.note(StopReason.COMPLETED)
                    return
                if callable(command):
                    self.fail(command)
                await self.pass_on(command)
        except OSError as error:
            self.raise_again(error)
        except self.cancelled_class:
            self.cancelled_at = self.now()
            if self.when_cancelled is None:
                raise
            self.fail(self.when_cancelled)

    def fail(self, make):
        self.note(StopReason.APP_FAILED)
        self.own_error = make()
        raise self.own_error

    async def pass_on(self, message):
        """Send a message of the app."""
        self.handed += message.get("body", b"")
        if not message.get("more_body", True):
            self.last_called, self.last_size = True, len(message["body"])
        self.last_send, was_ended = self.now(), self.has_been_ended
        was_over = self.last_taken or self.notified or math.isfinite(self.given_up_at)
        if not self.app_sends_under_way:
            passed = [limit for limit in self.silences if limit <= self.now()]
            self.too_silent_at = min([self.too_silent_at, *passed])
        self.app_sends_under_way += 1
        try:
            await self.app_send(message)
        except OSError:
            self.expect(not self.is_listening, "a listening app got an OSError")
            raise
        finally:
            self.app_sends_under_way -= 1
            self.app_sent_at = self.now()
            if message.get("body") and not was_over:
                self.data_sent_at = self.now()
        discarded = was_ended and not self.is_listening
        self.expect(not discarded, "discarded for an app that does not listen")
        self.start_returned |= message["type"] == "http.response.start"

    @property
    def has_been_ended(self):
        return self.last_taken and not self.ended_by_app

    @property
    def is_listening(self):
        return self.notified or self.polled or self.asks > 0

    def on_stop(self, reason):
        """Record why the stream stops, where the model knows only when it may."""
        if reason is StopReason.MAX_LIFETIME:
            self.expect(self.now() >= min(self.lifetimes), "a lifetime that was too short")
            self.note(reason)
        elif reason is StopReason.SILENT:
            self.expect(self.now() >= min(self.silences), "a short silence")
            self.note(reason)
        elif reason is StopReason.SEND_TIMEOUT:
            self.expect(self.now() >= self.given_up_at, "a send was given up too early")
            self.note(reason)
        elif reason is StopReason.WRITE_FAILED:  # unless the client turns out to have left
            self.expect(self.write_failed, "no write has failed")
            self.note(reason)
        self.raise_if_asked("callback")

    def now(self):
        return self.loop.time()

    async def receive(self):
        self.reads += 1
        self.expect(self.reads == 1, "two readers")
        # `ask`, below, is the app's own; anybody else has to wait for the start
        early = not (self.opened or self.asks)
        self.expect(not early, "the server was asked before the response started")
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
        key, of_the_app = object(), "app" in message
        alone = not self.sends or (of_the_app and all(app for app, _ in self.sends.values()))
        self.expect(alone, "a send of the middleware's own beside another")
        self.sends[key] = of_the_app, self.now()
        try:
            await self.take(message)
        finally:
            del self.sends[key]

    @property
    def silent_from(self):
        """Since when the app has sent no byte, apart from the time that sends took."""
        sent_at = -math.inf if math.isinf(self.data_sent_at) else self.data_sent_at
        return max(self.opened_at, sent_at)

    @property
    def lifetimes(self):
        """When the lifetime of a stream is over."""
        return [] if self.max_lifetime is None else [self.opened_at + self.max_lifetime]

    @property
    def drains(self):
        """When a drain is over."""
        asked = self.asked_to_stop_at is not None and self.drain is not None
        return [self.asked_to_stop_at + self.drain] if asked else []

    @property
    def earliest_ends(self):
        """When a middleware may end the stream."""
        silences = [*self.silences, self.too_silent_at]
        return [*self.possible_drains, *self.lifetimes, *silences]

    @property
    def possible_drains(self):
        """When a drain may be over, where the model does not know whether there is one."""
        after_a_stop = [] if self.drain is None else [self.may_stop_at + self.drain]
        return [*self.drains, *after_a_stop]

    @property
    def silences(self):
        """When the app has been silent for too long, if it has not sent a byte since."""
        if self.max_silence is None or self.noticed:
            return []
        return [self.silent_from + self.max_silence]

    @property
    def send_timeouts(self):
        return [] if self.send_timeout is None else [self.send_timeout]

    def begin_response(self):
        self.opened, self.opened_at = True, self.now()

    async def pass_gate(self):
        """Wait until the server has completed the sends before, and this one."""
        since = self.now()
        try:
            async with self.lock:
                await self.wait_at_gate(since)
        except self.cancelled_class:
            self.note_given_up(since)
            raise

    async def wait_at_gate(self, since):
        try:
            await self.gate.wait()
        except self.cancelled_class:
            self.note_given_up(since)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(self.resistance)
            raise
        if self.only_one:
            self.only_one, self.gate = False, anyio.Event()

    def note_given_up(self, since):
        """Note that a send was cancelled, if it may have taken too long."""
        if self.send_timeouts:
            given_up_at = since + min(self.send_timeouts)
            if self.now() >= given_up_at:
                self.given_up_at = min(self.given_up_at, given_up_at)

    async def take(self, message):
        if message["type"] == "http.response.start":
            self.begin_response()
            await self.pass_gate()
            self.opened_on = self.time
            return
        self.expect(not self.last_handed, "a message after the last body")
        data = message.get("body", b"")
        last = not message.get("more_body", False)
        is_summary = b"error" in data
        is_ping = message.get("more_body") and b"p" in data and not is_summary
        is_farewell = data.replace(b"\r\n", b"\n") == BYE
        self.last_handed |= last
        of_the_app = "app" in message or (last and is_summary)
        if is_farewell or not (of_the_app or is_ping):
            self.check_the_middlewares_end()
        if is_ping:
            self.expect(data.replace(b"\r\n", b"\n") == self.payload, "another ping's bytes")
            self.expect(self.sends_pings, "a ping, though the path is excluded")
            self.expect(self.reason is None, f"a ping was begun after {self.reason}")
        await self.pass_gate()
        if is_ping and self.ping_error:
            error, self.ping_error = self.ping_error, None
            if isinstance(error, OSError):
                self.note(StopReason.DISCONNECTED)
            self.write_failed = True
            raise error
        if data:
            kind = "summary" if is_summary else "app"
            kind = "farewell" if is_farewell else "ping" if is_ping else kind
            self.wire.append((self.time, kind, data))
        if last:
            self.last_taken, self.ended_by_app = True, of_the_app
            if not of_the_app:
                self.ended_at = self.now()
            self.note(StopReason.COMPLETED)
            self.left.set()

    def check_the_middlewares_end(self):
        """Nothing is ended before its time, nor for who has left."""
        self.expect(self.reason in self.reasons_to_end, f"ended after {self.reason}")
        self.expect(not (self.left.is_set() and self.noticed), "ended for who has left")
        self.expect(self.now() >= min(self.earliest_ends), "ended too early")

    @property
    def noticed(self):
        return self.reason is StopReason.DISCONNECTED

    @property
    def completed_by_app(self):
        return self.ended_by_app

    @property
    def is_the_apps_affair(self):
        """Whether a send that takes too long changes nothing more."""
        return self.noticed

    def observe(self, event):
        self.expect(not self.sent_at_end, "an event after the end")
        self.events.append(event)
        if isinstance(event, StreamEnded):
            self.sent_at_end = [*self.wire, None]
            if event.reason is StopReason.DISCONNECTED and self.last_handed:
                self.expect(self.left_by_client, "nobody has left")
                self.note(event.reason)  # the send of the last body blocks
        self.raise_if_asked("observer")

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
        self.steps.call(self.command, body(data.encode()))

    @precondition(lambda self: self.app_has_started and not self.ending)
    @rule(data=st.sampled_from(["", "data: z\n\n"]))
    def app_ends(self, data):
        self.ending = True
        self.steps.call(self.command, body(data.encode(), more=False))

    @precondition(lambda self: self.start_returned and not self.ending and not self.over)
    @rule(
        data=st.sampled_from(CHUNKS),
        data_beside=st.sampled_from(CHUNKS),
        ends=st.sampled_from([False, False, True]),
    )
    def app_sends_from_two_tasks(self, data, data_beside, ends):
        async def beside():
            await self.send_beside(body(data_beside.encode()))

        async def both():
            self.spawn(beside)
            if ends:
                await settle()  # the last body must be the last one
            await self.command(body(data.encode(), more=not ends))

        self.steps.call(both)
        self.ending |= ends

    async def send_beside(self, message):
        self.sends_beside += 1
        try:
            with suppress(OSError):
                await self.pass_on(message | {"app": True})
        finally:
            self.sends_beside -= 1

    @rule(seconds=st.sampled_from([math.inf, math.inf, 0, 0.5, 2]))
    def app_asks(self, seconds):
        async def ask():
            await self.ask(seconds)

        async def begin():
            if not self.asks:
                self.spawn(ask)
            await settle()

        self.steps.call(begin)

    async def ask(self, seconds):
        self.asks += 1
        self.ask_scope = anyio.move_on_after(seconds)
        try:
            with self.ask_scope:
                self.got(await self.app_receive())
                return
            self.polled = True
        finally:
            self.asks -= 1

    async def listen(self):
        """Receive until the client has disconnected, and perhaps send something after that."""
        while not (self.notified or self.polled):
            await self.ask(math.inf)
        if self.goes_on is not None and self.notified:
            await anyio.sleep(self.goes_on)
            if self.start_returned and not (self.ending or self.over):
                await self.send_beside(body(b"y"))

    def got(self, message):
        self.received.append(message)
        self.polled = False
        if message["type"] == "http.disconnect":
            self.notified = True
            self.notified_at = min(self.notified_at, self.now())

    @precondition(lambda self: self.asks)
    @rule()
    def app_stops_asking(self):
        async def stop():
            self.ask_scope.cancel()
            await settle()

        self.steps.call(stop)

    @rule(who=st.sampled_from(["observer", "callback", "text"]), error=st.sampled_from(ERRORS))
    def next_callable_fails(self, who, error):
        self.errors_to_raise[who] = error

    @rule(delay=st.integers(1, 20))
    def time_passes(self, delay):
        for _ in range(delay):
            self.time += 1
            self.steps.sleep(1)
            self.steps.call(settle)
            self.is_alive_or_excused()
            self.is_over_within_the_limit()

    @rule()
    def client_leaves(self):
        async def leave():
            self.left_by_client |= not self.last_taken
            self.left.set()
            await settle()

        self.steps.call(leave)

    def note_that_all_are_to_stop(self, reason):
        own = reason is StopReason.ABORTED and self.callables == "return"
        # A stream that has stopped no longer listens to a signal of its own.
        ignored = own and self.reason is not None
        self.note(reason)
        if ignored:  # unless the stream has not ended, as after a failed ping
            self.may_stop_at = min(self.may_stop_at, self.now())
        if self.asked_to_stop_at is None and not ignored:
            self.asked_to_stop_at = self.now()
        self.asked_by.append(reason)

    @rule()
    def signal_aborts(self):
        async def abort():
            if self.callables in ("none", "return"):
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
            for _ in range(1 + len(self.commands)):
                await settle()

        self.blocked_since = None
        self.steps.call(release)

    @precondition(lambda self: self.blocked_since is not None and self.sends)
    @rule()
    def one_send_goes_on(self):
        async def release():
            self.only_one = True
            self.gate.set()
            await settle()

        self.steps.call(release)

    @rule(error=st.sampled_from([ValueError, OSError]))
    def next_ping_fails(self, error):
        self.ping_error = error()

    @precondition(lambda self: self.blocked_since is None and not self.sends_beside)
    @rule(how=st.sampled_from(["return", *BOOMS]))
    def app_is_over(self, how):
        async def end():
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
            self.sends_pings
            and self.reason is None
            and self.opened
            and self.blocked_since is None
            and not self.left.is_set()
            and not self.last_handed
            and not self.sends
            and is_at(sent, self.ping.at)
        ):
            last = max((when for when, *_ in self.wire), default=-math.inf)
            since = self.time - max(last, self.opened_on)
            first = self.interval if self.first_ping is None else self.first_ping
            allowed = self.interval if self.wire else first
            assert since <= allowed, f"silent for {since} s"

    async def read_the_clock(self):
        return self.now()

    def is_over_within_the_limit(self):
        """What the middleware is to end is over, and the app's call one second later.

        But for an app that was notified of the disconnect and has sent nothing since.
        """
        if not self.opened:
            return
        now = self.steps.call(self.read_the_clock)
        limits = [self.earliest_limit, *self.drains]
        if not (self.left_by_client or self.noticed):
            limits += self.lifetimes
            if self.silences and not self.app_sends_under_way:
                sent_at = -math.inf if math.isinf(self.app_sent_at) else self.app_sent_at
                later = max(self.silent_from, sent_at) - self.silent_from
                limits.append(min(self.silences) + later)
        if self.send_timeouts and not self.is_the_apps_affair:
            limits.append(self.given_up_at)
            timeout = min(self.send_timeouts)
            limits += [since + timeout for _, since in self.sends.values()]
        limit = min(limits)
        if now >= limit + self.resistance:  # until then the client may still leave first
            self.earliest_limit = limit
        exit_at = limit + self.exit_timeout + self.resistance
        left_alone = self.notified and self.last_send < min(self.ended_at + WITHIN, exit_at)
        if not (self.completed_by_app or left_alone) and now > exit_at:
            assert self.over, f"goes on at {now}, to be ended by {limits}"

    @invariant()
    def the_app_is_cancelled_only_where_it_must_be(self):
        """A second after a limit, unless it was notified and has sent nothing since."""
        if self.cancelled_at is None:
            return
        limit = min(self.earliest_limit, self.given_up_at, *self.earliest_ends)
        assert self.cancelled_at >= limit + APP_EXIT_TIMEOUT, (self.cancelled_at, limit)
        in_time = self.notified_at < limit + APP_EXIT_TIMEOUT
        assert not in_time or self.last_send >= limit + WITHIN

    @invariant()
    def nothing_was_violated(self):
        assert not self.violations, self.violations

    @property
    def may_say_farewell(self):
        return self.farewell is not None

    must_say_farewell = may_say_farewell

    @invariant()
    def what_the_middleware_ends_ends_well(self):
        """A farewell stands at an event boundary, and goes before the last body alone."""
        sent = b"".join(data for _, kind, data in self.wire if kind == "app")
        farewells = [data for _, kind, data in self.wire if kind == "farewell"]
        if farewells:
            assert self.may_say_farewell
            crlf = b"\r\n" in sent
            assert farewells == [BYE.replace(b"\n", b"\r\n" if crlf else b"\n")]
            assert self.wire[-1][1] == "farewell"
            assert is_at(sent, "event")
        elif (
            self.last_taken
            and not self.ended_by_app
            and self.must_say_farewell
            and "summary" not in [kind for _, kind, _ in self.wire]
        ):
            assert not is_at(sent, "event"), "the farewell is missing"

    @invariant()
    def pings_stand_at_boundaries(self):
        sent = b""
        for _, kind, data in self.wire:
            if kind == "ping":
                crlf = b"\r\n" in sent
                assert data.count(b"\r\n") == (data.count(b"\n") if crlf else 0)
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
            assert event.bytes_sent in self.possible_sizes(sent)

    def possible_sizes(self, sent):
        """Return how many bytes the stream may have sent, given what the server has got."""
        return [sum(len(data) for _, _, data in sent)]

    def teardown(self):
        if not hasattr(self, "steps"):
            return
        try:
            self.sends_go_on()
            self.let_sends_leave()
            if self.has_been_ended and not self.over:
                self.time_passes(3)
            if not self.over:
                self.app_is_over("return")
            self.let_sends_leave()
            self.steps.call(settle)
            self.steps.call(self.check_call_is_over)
            if self.listens:
                self.steps.sleep(2)
            self.steps.call(self.check_end)
        finally:
            LOGGER.removeFilter(self.check_log)
            self.steps.close()

    def let_sends_leave(self):
        if self.resistance:
            self.steps.sleep(math.ceil(self.resistance))
            self.steps.call(settle)

    async def check_call_is_over(self):
        assert self.over
        assert scheduled_streams() == 0
        self.left.set()  # whoever still asks the server's own receive
        await settle()

    async def check_end(self):
        assert self.raised is self.own_error, (self.raised, self.own_error)
        self.nothing_was_violated()
        self.the_app_is_cancelled_only_where_it_must_be()
        assert tasks_left() - self.extra_tasks() == 0
        kinds = [type(event) for event in self.events if type(event) is not PingSent]
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


def run_machine(machine: type[RuleBasedStateMachine], examples: int, steps: int) -> None:
    """Run a state machine; the Hypothesis profile makes the examples fewer or more."""
    share = settings().max_examples / 100
    bounds = settings(max_examples=round(examples * share), stateful_step_count=steps)
    with patch("random.uniform", lambda _, most: most):  # no random part of a limit
        run_state_machine_as_test(machine, settings=bounds)
