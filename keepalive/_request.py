"""One request: what its client sends, and what is known of it so far.

Except for HEAD and excluded paths, `Request` is the only reader of the server's `receive`,
since servers differ in what a second one gets: hypercorn, daphne and older releases of granian
report a disconnect once, to one waiter; uvicorn gives a second waiter empty duplicates of a
request message. The app and the stream read through it, and both see every message.

The app's `receive` awaits nothing before the server's own: Starlette's
`request.is_disconnected()` calls it in a cancelled scope and would never see a disconnect.
"""

from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from ._abort import AbortController
from ._activity import Silence
from ._config import Config
from ._eventloop import Cancel, Loop, try_spawn
from ._events import StopReason
from ._headers import request_body_size
from ._late import LateResponse
from ._nesting import THIS, Nesting
from ._types import DISCONNECT, REQUEST, Message, Receive, Scope, SendNow, do_nothing

MAX_READ_AHEAD: Final = 3
"""The maximum number of messages that are buffered for an app that does not read.

A server, or a test, that always returns another message would otherwise be read forever.
Three: an empty GET has one message, a small POST on hypercorn and granian two.
"""

Inbound: TypeAlias = Literal["open", "uploading", "disconnected"]

OPEN: Final = "open"
"""No more of the request's body is known to come. The initial state."""
UPLOADING: Final = "uploading"
"""More of the request's body is to come. The app alone decides when it is read."""
DISCONNECTED: Final = "disconnected"
"""The client has disconnected."""


@dataclass(slots=True)
class Hooks:
    """What a `Terminator` and an `EarlyStart` add to a request; plain routes have none.

    All are called in the event loop's thread.
    """

    opened: Callable[[], None] = do_nothing
    """Called when a stream is about to start."""
    rejected: Callable[[], None] = do_nothing
    """Called when the server has rejected its start."""
    stopped: Callable[[], None] = do_nothing
    """Called when the pings have stopped."""
    aborted: Callable[[], None] = do_nothing
    """Called when its own signal, or the app, has aborted it; perhaps after a stop."""
    after_send: Callable[[], Awaitable[None]] | None = None
    """Called after each message of the app, while it is set."""
    discard: Callable[[], Awaitable[None]] | None = None
    """Called instead of each send of the app, while it is set."""
    silence: Silence | None = None
    """How long the app has sent nothing, if that is limited."""
    ended: Callable[[], None] = do_nothing
    """Called when the stream has ended; again whenever that is reported again."""
    disconnected: Callable[[], None] = do_nothing
    """Called when the client has disconnected."""
    closed: Callable[[], None] = do_nothing
    """Called when the app's call is over."""
    late: LateResponse | None = None
    """The app's own response, if the middleware has started one before."""
    trailers: bool = False
    """Whether the response start has announced trailers."""

    def clear(self) -> None:
        """Remove all functions. They refer to the request, which refers to them."""
        self.__init__(late=self.late, trailers=self.trailers)  # type: ignore[misc]


class Request:
    """The state of one request that everything that serves it shares.

    Storage, to be one object with the `Responder`, which also sets the fields.
    """

    # There is one for every request, so it is as small as possible.
    __slots__ = (
        "_controller",
        "_read_ahead",
        "_server_receive",
        "abort_requested",
        "config",
        "hooks",
        "inbound",
        "is_reading",
        "nesting",
        "pings",
        "reason",
        "scope",
        "server_send",
    )

    config: Config
    scope: Scope
    server_send: SendNow
    """The server's `send`, or a `RevocableConnection`'s."""

    hooks: Hooks | None
    """What a `Terminator` adds, on routes that have one."""

    pings: int
    """How many pings have been sent."""

    abort_requested: bool
    """Whether the app, or its own signal, has asked for the pings to stop."""

    _server_receive: Receive
    _read_ahead: "_ReadAhead | None"
    _controller: AbortController | None

    inbound: Inbound
    """What is known of the messages that are still to come from the client."""

    is_reading: bool
    """Whether a task is waiting for the client's next message."""

    nesting: Nesting[Any] | None
    """Its place among other middlewares, if there are any."""

    reason: StopReason | None
    """Why the pings have stopped; `None` until they have."""

    # Receiving

    def on_disconnect(self) -> None:
        """Called when the client has disconnected; again if an outer one ends the stream."""

    async def receive(self) -> Message:
        """Return the next message: the app's `receive`."""
        if self._read_ahead is not None or self.is_reading or self.inbound is DISCONNECTED:
            message = await self._wait_for_turn()
            if message is not None:
                return message
        self.is_reading = True
        try:
            message = await self._server_receive()
        finally:
            self.is_reading = False
            if self._read_ahead is not None:
                self._read_ahead.notify()
        if message.get("type") == REQUEST and not message.get("more_body"):
            self.inbound = OPEN
        else:
            self._track(message)
        return message

    __call__ = receive
    """As `receive`: the app is given the request itself, since a bound method would take 64
    bytes of each idle stream."""

    async def _wait_for_turn(self) -> Message | None:
        """Return a message that is there already; `None` when this task is to read."""
        read_ahead = self._open_read_ahead()
        while True:
            if read_ahead.buffered:
                return read_ahead.buffered.pop(0)
            if self.inbound is DISCONNECTED:
                # hypercorn and daphne wait forever now; an app that loops on `receive` must
                # not block the event loop. The first time, nothing may be awaited: Starlette's
                # `is_disconnected()` calls this in a cancelled scope.
                if read_ahead.reported:
                    await cancel_shielded_checkpoint()
                read_ahead.reported = True
                return {"type": DISCONNECT}
            if not self.is_reading:
                return None
            await read_ahead.wait()

    def _track(self, message: Message) -> None:
        kind = message.get("type")
        if kind == REQUEST:
            self.inbound = UPLOADING if self._expects_more_body(message) else OPEN
        elif kind == DISCONNECT:
            self.inbound = DISCONNECTED
            self.on_disconnect()

    def _expects_more_body(self, message: Message) -> bool:
        if not message.get("more_body", False):
            return False
        # hypercorn and granian send the end of a body, however small, as another message.
        size = request_body_size(self.scope)
        return size is None or len(message.get("body", b"")) < size

    # Reading ahead

    @property
    def _can_read_ahead(self) -> bool:
        exhausted = self._read_ahead is not None and self._read_ahead.exhausted
        return self.inbound is OPEN and not exhausted

    def ensure_listening(self, loop: Loop, context: Context) -> bool:
        """Make sure that a task waits for the disconnect. Return whether one was started.

        It buffers other messages for the app. It does not read a body of which more is to
        come: the app controls back-pressure on uploads.
        """
        if self.is_reading or not self._can_read_ahead:
            return False
        self.is_reading = True  # from now on, not only from the task's first step
        cancel = try_spawn(loop, self._read, context, self._stopped_reading)
        if cancel is None:
            self.is_reading = False
            return False
        self._open_read_ahead().cancel = cancel
        return True

    def cancel_read_ahead(self) -> None:
        """Cancel the task that `ensure_listening` has started, if there is one."""
        if self._read_ahead is not None and self._read_ahead.cancel is not None:
            self._read_ahead.cancel()

    async def _read(self) -> None:
        read_ahead = self._open_read_ahead()
        try:
            while self._can_read_ahead:
                message = await self._server_receive()
                self._track(message)
                if self.inbound is not DISCONNECTED:
                    read_ahead.buffered.append(message)
                    read_ahead.exhausted = len(read_ahead.buffered) >= MAX_READ_AHEAD
                read_ahead.notify()
        except Exception:  # the app gets the server's error from its own next receive
            read_ahead.exhausted = True

    def _stopped_reading(self) -> None:
        self.is_reading = False
        read_ahead = self._open_read_ahead()
        read_ahead.cancel = None
        read_ahead.notify()

    def _open_read_ahead(self) -> "_ReadAhead":
        if self._read_ahead is None:
            self._read_ahead = _ReadAhead()
        return self._read_ahead

    # Stopping

    def on_stopped(self, error: BaseException | None) -> None:
        """Called when the pings have stopped, if there are nested middlewares."""

    @property
    def sends_pings(self) -> bool:
        """Whether this middleware sends the pings, and not another one."""
        return self.nesting is None or self.nesting.pinger is THIS

    @property
    def is_alive(self) -> bool:
        """Whether nothing has stopped the pings, nor is about to."""
        stopping = self.abort_requested or self.config.stop_signal.aborted
        return self.reason is None and not stopping

    @property
    def is_watched(self) -> bool:
        """Whether the app has asked for its signal."""
        return self._controller is not None

    def request_abort(self) -> None:
        """Record that the pings are to stop. Thread-safe and signal-safe."""
        if not self.config.stop_signal.aborted:
            self.abort_requested = True

    def record_reason(self, reason: StopReason) -> bool:
        """Record why the pings stop. Return whether this reason is the first.

        A stop that was requested from elsewhere counts as the first one, even if the event
        loop has not acted on it yet. To be called in the event loop's thread only, so that a
        recorded reason never changes.
        """
        first = False
        if self.reason is None:
            stop_signal = self.config.stop_signal
            first = not (self.abort_requested or stop_signal.aborted)
            if not first:
                given = None if self.abort_requested else stop_signal.reason
                reason = given if isinstance(given, StopReason) else StopReason.ABORTED
            self.reason = reason
        return first

    def abort_signal(self) -> None:
        """Abort the signal that the app sees, with the recorded reason."""
        if self._controller is not None:
            self._controller.abort(self.reason)


class _ReadAhead:
    """What is needed only when several tasks read, the stream's own among them."""

    __slots__ = ("buffered", "cancel", "changed", "exhausted", "reported")

    def __init__(self) -> None:
        self.buffered: list[Message] = []
        self.changed: anyio.Event | None = None
        self.exhausted = False  # no more is read ahead, since a server, or a test, floods it
        self.reported = False  # the disconnect, to the app
        self.cancel: Cancel | None = None

    async def wait(self) -> None:
        """Wait until a reader has a message, or has stopped reading."""
        if self.changed is None:
            self.changed = anyio.Event()
        await self.changed.wait()

    def notify(self) -> None:
        """Wake all tasks that wait."""
        if self.changed is not None:
            self.changed.set()
            self.changed = None
