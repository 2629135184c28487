"""Starting a response early: when the app takes longer than `start_after` to start it.

An `EarlyStart` is between the app and its responder. If the app starts its response in time,
it only passes messages on. Otherwise it starts the response itself, as an event stream or in
another format, and the stream sends pings. The app's late response can then no longer be sent
as such. If it is compatible with what was started, its body continues the response; otherwise
the client is sent a summary of it (see `_late`), and the stream ends.

The states (`EarlyState`)
    WAITING      Neither has started the response.
    APP_STARTED  The app has started its response itself.
    STARTING     The middleware's start is being sent; messages of the app wait for it.
    STARTED      The middleware has started the response, the app has not.
    EMPTY        The app's response continues a start as JSON. There is no byte of it yet, and
                 there must be one: an empty body is not JSON.
    FORWARDING   The app's response is compatible: its body is sent.
    BUFFERING    It is not: its body is buffered for the summary.
    REPORTED     The summary, and with it the last body, has been or is being sent.
"""

from collections.abc import Awaitable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast

import anyio
from anyio.lowlevel import checkpoint

from ._abort import AbortSignal
from ._body import COLLECTING, RequestBody
from ._ending import REVOKED, Terminator
from ._eventloop import Cancel, cancellable, try_spawn
from ._events import StopReason
from ._headers import (
    ANTI_BUFFERING,
    BY_ACCEPT,
    BY_BODY,
    EarlyBasis,
    has_request_body,
    hide_sendfile_extensions,
    is_informational,
    request_body_size,
    with_reusable_headers,
)
from ._inflight import APP_EXIT_TIMEOUT
from ._late import LateResponse
from ._live import ENDED, LiveStream
from ._ping import Ping
from ._request import UPLOADING
from ._responder import UNDECIDED, Responder
from ._routing import Plan
from ._scheduler import PingScheduler
from ._types import (
    BODY,
    EVENT_STREAM,
    LOGGER,
    START,
    ASGIApp,
    Message,
    Receive,
    Scope,
    Send,
    do_nothing,
)

EarlyState: TypeAlias = Literal[
    "waiting",
    "app_started",
    "starting",
    "started",
    "empty",
    "forwarding",
    "buffering",
    "reported",
]

WAITING: Final = "waiting"
"""Neither the app nor the middleware has started the response."""
APP_STARTED: Final = "app_started"
"""The app has started its response itself."""
STARTING: Final = "starting"
"""The middleware's response start is being sent."""
STARTED: Final = "started"
"""The middleware has started the response, and the app has yet to send its own."""
EMPTY: Final = "empty"
"""The app's response continues one that was started as JSON; no byte of it has come yet."""
FORWARDING: Final = "forwarding"
"""What the app sends continues the body of the response that was started."""
BUFFERING: Final = "buffering"
"""What the app sends belongs to another response, and is buffered for the summary."""
REPORTED: Final = "reported"
"""The summary has been, or is being, sent; it completes the response."""


@dataclass(slots=True, eq=False)
class EarlyStart:
    """Gives an app its `receive` and `send`, and starts its response if it takes too long."""

    _responder: Responder
    _terminator: Terminator
    _basis: EarlyBasis
    _context: Context = field(default_factory=copy_context)
    _scheduler: PingScheduler = field(default_factory=PingScheduler.current)
    _state: EarlyState = WAITING
    _is_due: bool = False
    """Whether `start_after` is over."""
    _body_received: bool = False
    """Whether the app has received a part of the request's body."""
    _app_sends: int = 0
    """Sends in progress, of the app's messages before its response start."""
    _start_done: anyio.Event | None = None
    """Set when the middleware's start has been sent, or rejected; if anyone waits for that."""
    _extensions: object = None
    """The scope's extensions, before some of them were hidden."""
    _body: RequestBody = field(default_factory=RequestBody)
    """What the app has read of the request's body, as long as that may be examined."""
    _plan: Plan = field(init=False)
    """The plan of the response, once the middleware starts it."""
    _late: LateResponse = field(init=False)
    """The app's late response."""
    _late_start: Message = field(default_factory=dict[str, Any])
    """Its start."""
    _cancel_start: Cancel = field(init=False)

    def __post_init__(self) -> None:
        scope, policy = self._responder.scope, self._responder.route.policy
        self._extensions = scope.get("extensions")
        hide_sendfile_extensions(scope)
        if self._basis is not BY_BODY:
            self._body.release()
        when = self._scheduler.time() + cast("float", policy.start_after)
        self._cancel_start = self._scheduler.loop.call_at(when, self._on_due)
        self._terminator.hooks.disconnected = self._disconnected
        self._terminator.hooks.closed = self._closed

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and complete the response for it if it does not."""
        try:
            await self._terminator.serve(app, scope, receive, send)
        except Exception as error:
            await self._answer_for_app(error)
            raise
        await self._answer_for_app()

    # The start

    def _on_due(self) -> None:
        self._is_due = True
        self._try_start()

    def _try_start(self) -> None:
        """Start the response, if that is due and nothing prevents it."""
        responder = self._responder
        if not (self._is_due and self._state is WAITING and responder.state is UNDECIDED):
            return
        if self._app_sends or self._is_uploading or not responder.is_alive:
            return
        plan = self._choose_plan()
        if plan is None:
            return
        signal = self._context.run(self._ask_for_signal)
        if (signal is not None and signal.aborted) or not self._claim():
            return
        self._state = STARTING
        self._begin_late(plan)
        loop = self._scheduler.loop
        cancel = try_spawn(loop, self._start, self._context, self._on_start_done)
        if cancel is None:
            self._state = WAITING
            self._forget_late()
        else:
            self._cancel_start = cancel

    def _choose_plan(self) -> Plan | None:
        """Return the plan with which to start the response; `None` if it is not to be started.

        Called again when the app has read the body, if it had not yet.
        """
        route = self._responder.route
        asks_for_stream = self._basis is BY_ACCEPT or self._body.asks_for_stream(
            request_body_size(self._responder.scope)
        )
        if asks_for_stream:
            return route.early_plans[EVENT_STREAM]
        return route.early_plans.get(route.policy.start_as)

    def _claim(self) -> bool:
        """Claim the response, unless a middleware around this one has started it."""
        self._body.release()
        return self._responder.claim()

    def _begin_late(self, plan: Plan) -> None:
        """Prepare for a response of the app that comes after the middleware's start."""
        self._plan = plan
        sent = ANTI_BUFFERING if plan.policy.anti_buffering else ()
        self._late = LateResponse(plan.media_type, sent)
        self._terminator.observe_silence(self._scheduler)  # sends may wait for the start
        self._terminator.hooks.late = self._late
        self._terminator.summary = self._farewell

    def _forget_late(self) -> None:
        self._terminator.hooks.late = self._terminator.summary = None
        self._responder.release()

    @property
    def _is_uploading(self) -> bool:
        """Whether the app is reading the request's body.

        Some clients read no response before they have sent their body.
        """
        responder = self._responder
        waits_for_body = responder.is_reading and not self._body_received
        return responder.inbound is UPLOADING or (
            waits_for_body and has_request_body(responder.scope)
        )

    async def _start(self) -> None:
        headers = [(b"content-type", self._plan.media_type.encode())]
        start = {"type": START, "status": 200, "headers": headers}
        await checkpoint()  # a task of trio runs to its first one, even if it was cancelled
        try:
            await self._responder.open(start, self._plan)
        except Exception as error:  # the app gets its own error from its own start
            LOGGER.debug("a response could not be started early", exc_info=error)

    def _on_start_done(self) -> None:
        self._cancel_start = do_nothing  # its task's error may refer to this object
        if self._responder.live is None:  # the server has rejected it
            self._state = APP_STARTED
            self._forget_late()
        elif self._state is STARTING:  # not if a limit has ended the stream at once
            self._state = STARTED
        if self._start_done is not None:
            self._start_done.set()

    async def _wait_for_start(self) -> None:
        """Wait while the middleware's start is being sent."""
        if self._state is STARTING:
            # Made here, since anyio 4.0 can't make one in a callback of the event loop.
            self._start_done = self._start_done or anyio.Event()
            await self._start_done.wait()

    def _ask_for_signal(self) -> AbortSignal | None:
        """Return the request's own abort signal. The user's callable is called only once."""
        responder = self._responder
        signal = responder.config.signal_for(responder.scope)

        def signal_for(_: Scope) -> AbortSignal | None:
            return signal

        responder.config = replace(responder.config, signal_for=signal_for)
        return signal

    def _disconnected(self) -> None:
        if self._state is STARTING:
            self._cancel_start()

    # The app's messages

    async def receive(self) -> Message:
        """Return the next message: the app's `receive`."""
        message = await self._responder.receive()
        self._body_received = True
        if self._body.state is COLLECTING:
            self._body.feed(message)
        self._try_start()  # it may have waited for the end of an upload only
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app, or handle it in another way: the app's `send`."""
        if self._state is WAITING:
            if message.get("type") != START or is_informational(message):
                return self._send_before_start(message)
            self._state = APP_STARTED
            self._body.release()
        if self._state is APP_STARTED:  # nearly always, so without another coroutine
            return self._responder.send(message)
        if self._terminator.state is REVOKED:
            return self._terminator.discard_late()
        return self._send_late(message)

    async def _send_before_start(self, message: Message) -> None:
        """Send what may precede a start, never at the same time as the middleware's start."""
        self._app_sends += 1
        try:
            await self._responder.send(message)
        finally:
            self._app_sends -= 1
        self._try_start()

    async def _send_late(self, message: Message) -> None:
        """Send a message after the middleware's start. Not all of them reach the stream."""
        silence = self._terminator.hooks.silence
        if silence is None:
            await self._handle_late(message)
        else:
            await silence.send(self._handle_late, message)

    async def _handle_late(self, message: Message) -> None:
        await self._wait_for_start()
        kind = message.get("type")
        live = self._responder.live
        if self._state is REPORTED and live is not None:
            await live.wait_turn()  # until the summary has been sent
        if self._terminator.state is REVOKED or self._state is REPORTED:
            await self._terminator.connection.discard()
        elif self._state is APP_STARTED:
            await self._responder.send(message)
        elif kind == START:
            self._on_late_start(message)
        elif kind == BODY:
            await self._send_late_body(message)
        # Everything else is of an extension, for a response that was not sent.

    def _on_late_start(self, message: Message) -> None:
        """Handle the app's own response start after the middleware's has been sent."""
        if self._state is not STARTED:
            raise RuntimeError("http.response.start must come once")
        if is_informational(message):
            return
        late, config, pattern = self._late, self._responder.config, self._plan.pattern
        self._late_start = message = with_reusable_headers(message)
        late.begin(message)
        if late.compatible:
            self._continue(EMPTY if late.needs_body else FORWARDING)
            if late.dropped_headers:
                config.warn_lost(pattern, late.dropped_headers)
        else:
            self._state = BUFFERING
        if late.encoded:
            config.warn_compressed(pattern)

    async def _send_late_body(self, message: Message) -> None:
        last, live = not message.get("more_body", False), self._responder.live
        if self._state is STARTED:
            raise RuntimeError("http.response.start must come before http.response.body")
        if self._state is BUFFERING:
            await self._buffer(message, last=last)
            return
        if self._state is EMPTY and live is not None:  # not from a task that outlives the call
            if message.get("body"):
                await self._begin_body(live)
            elif last:
                message = {**message, "body": self._late.summary}
        await self._responder.send(message)

    def _continue(self, state: EarlyState) -> None:
        """Continue what was started with the app's response."""
        self._state = state
        if state is FORWARDING:
            self._terminator.summary = None

    async def _begin_body(self, live: LiveStream) -> None:
        """Prepare for the first byte of a body after a start as JSON."""
        self._continue(FORWARDING)
        if self._late.needs_newline:
            # From now on a space would spoil a field's name. The plan is changed first, as a
            # ping that is due may be sent as soon as the newline has been.
            plan = self._responder.route.early_plans[EVENT_STREAM]
            live.plan = plan.for_request(self._responder.scope, self._late_start)
            await self._responder.send({"type": BODY, "body": b"\n", "more_body": True})
            live.restart()

    async def _buffer(self, message: Message, *, last: bool) -> None:
        """Buffer a body; send the summary when it is complete, or long enough."""
        enough = self._late.feed(message.get("body", b""))
        if not (enough or last):
            return
        try:
            await self._send_summary(self._late.summary)
        finally:
            if last:
                self._terminator.revoke_after_last_body()
            else:  # whatever the app still sends is discarded
                self._terminator.revoke()

    async def _send_summary(self, summary: bytes) -> None:
        self._state = REPORTED
        self._terminator.summary = None
        live = self._responder.live
        if live is not None and live.report is not ENDED:
            await self._responder.send({"type": BODY, "body": summary, "more_body": False})

    def _farewell(self) -> Ping:
        """Return what is sent if a limit ends the stream, and record that it is reported.

        A partial body is better than none.
        """
        has_answered = self._state is BUFFERING
        self._state = REPORTED
        return self._late.farewell if has_answered else self._late.timeout_farewell

    async def _answer_for_app(self, error: Exception | None = None) -> None:
        """Send the summary, if the app has ended without having completed its response."""
        if self._state not in (STARTING, STARTED, EMPTY, BUFFERING):
            return
        with cancellable(APP_EXIT_TIMEOUT):
            await self._wait_for_start()
            live = self._responder.live
            if self._state not in (STARTED, EMPTY, BUFFERING) or live is None:
                return
            if live.report is ENDED or live.saw_last_body:
                return
            summary = self._late.summary
            if error is not None:
                summary = self._late.failure if self._state is EMPTY else summary
                live.stop(StopReason.APP_FAILED, error)
            elif self._state is STARTED:
                LOGGER.warning("an app has not answered", extra={"path": live.path})
            with suppress(Exception):  # the server reports the app's own error
                await self._send_summary(summary)

    def _closed(self) -> None:
        self._terminator.closed()
        self._body.release()
        with suppress(RuntimeError):  # the event loop may have been closed
            self._cancel_start()
        if self._extensions is not None:
            self._responder.scope["extensions"] = self._extensions
