"""A stream: one request, from its response's start to its end.

Law: one way to stop; the first reason wins and is reported once. Knows no bytes, no other
stream and no middleware but what it was given.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, final

from typing_extensions import override

from ._abort import AbortController, AbortSignal
from ._asgi import BODY, START, Message, Receive, Scope, Send
from ._backend import Cancel
from ._head import judge, readable, with_anti_buffering
from ._inbox import Inbox
from ._observe import (
    Observer,
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    report,
)
from ._policy import Placed, Policy
from ._pulse import Pulse
from ._routes import Choice

SCOPE_KEY: Final = "asgi-keepalive"
"""Where a request's scope holds its stream while the app runs."""


class Surroundings(NamedTuple):
    """What the streams of one middleware have in common.

    `stops` is aborted, with the `StopReason`, when all of them are to stop.
    """

    stops: AbortSignal
    own_signal: Callable[[Scope], AbortSignal | None]
    observer: Observer | None
    before_stream: Callable[[], None]
    warn_compressed: Callable[[str], None]


class Stream(Inbox):
    """One request. What only a stream needs is made when it proves to be one."""

    __slots__ = (
        "_around",
        "_choice",
        "_controller",
        "_error",
        "_handle",
        "_outer",
        "_own",
        "_pending",
        "_pulse",
        "_scope",
        "_send",
        "_unwatch",
        "ended",
        "pings",
        "reason",
    )

    def __init__(
        self, around: Surroundings, choice: Choice, scope: Scope, receive: Receive, send: Send
    ) -> None:
        super().__init__(receive)
        self._around = around
        self._choice = choice
        self._scope = scope
        self._send = send
        self._outer: Stream | None = scope.get(SCOPE_KEY)
        self._handle: Send | None = None
        self._pulse: Pulse | None = None
        self._controller: AbortController | None = None
        self._pending: StopReason | None = None
        self.pings = 0
        self.reason: StopReason | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the app's: the app's own `send`."""
        return (self._handle or self._send_first)(message)

    async def _send_first(self, message: Message) -> None:
        """Take a message before it is known what the response is."""
        policy = self._choice.policy
        kind = message.get("type")
        if kind != START or policy is None:
            if kind == BODY:  # its start is still on its way, or missing: hands off
                self._handle = self._send
            await self._send(message)
            return
        message = readable(message)
        verdict = judge(message, policy)
        if verdict.placed is not None and self._takes_over():
            self._around.before_stream()
            await self._send(with_anti_buffering(message) if policy.headers else message)
            if self._handle is None:
                await self._open(policy, verdict.placed, verdict.media_type)
            return
        if verdict.compressed:
            self._around.warn_compressed(self._choice.route)
        await self._send(message)
        if verdict.final:
            self._handle = self._send

    def _takes_over(self) -> bool:
        return self._outer is None or self._outer.step_aside()

    def step_aside(self) -> bool:
        """Leave the response to a middleware further in; false where it is too late."""
        if self._pulse is not None:
            return False
        self._handle = self._send
        return self._takes_over()

    async def _open(self, policy: Policy, placed: Placed, media_type: str) -> None:
        self._own: AbortSignal | None = None
        self._unwatch: Cancel | None = None
        self.ended = False
        self._error: BaseException | None = None
        pulse = self._pulse = Pulse(self, self._send, policy, placed)
        self._handle = pulse.send
        fact = StreamStarted(path=self._scope["path"], media_type=media_type, policy=policy)
        report(self._around.observer, fact)
        if self.reason is not None:  # the client left before the response started
            self._end_once()
            return
        self._own = self._around.own_signal(self._scope)
        self._around.stops.add_callback(self.on_stops)
        if self._own is not None:
            self._own.add_callback(self.abort)
        self.heed()
        if self.reason is None:
            await pulse.begin()

    @property
    def alive(self) -> bool:
        """Whether nothing has stopped the stream, nor is about to."""
        return self.reason is None and self._pending is None

    def on_stops(self) -> None:
        """Hear that all streams are to stop. From any thread or signal handler."""
        reason = self._around.stops.reason
        self._stop_soon(reason if isinstance(reason, StopReason) else StopReason.ABORTED)

    def abort(self) -> None:
        """Hear that this stream is to stop. From any thread or signal handler."""
        self._stop_soon(StopReason.ABORTED)

    def _stop_soon(self, reason: StopReason) -> None:
        if self._pending is None:
            self._pending = reason
        if (pulse := self._pulse) is not None:
            pulse.heart.post(pulse)

    def heed(self) -> None:
        """Do what was asked for from anywhere."""
        if self._pending is not None:
            self.stop(self._pending)

    def attend(self) -> None:
        """See that somebody listens for the disconnect, once nobody else does."""
        pulse = self._pulse
        if pulse is not None and self.may_read_ahead:
            self.begin_reading()
            self._unwatch = pulse.heart.loop.spawn(self.read_ahead, pulse.context)

    @override
    def on_disconnect(self) -> None:
        # Servers say it as well when a response is complete.
        if self._pulse is None or not self._pulse.finishing:
            self.end(StopReason.DISCONNECTED)
            if self._pulse is not None:
                self._pulse.cancel()  # some servers block what is sent to a client that left

    def pinged(self, count: int, payload: bytes) -> None:
        """Take note of a ping."""
        self.pings = count
        if self._around.observer is not None:
            path = self._scope["path"]
            report(self._around.observer, PingSent(path=path, count=count, payload=payload))

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings. The first reason wins."""
        if self.reason is not None:
            return
        self.reason = self._pending or reason
        if self._pulse is not None:
            self._error = None if self._pending else error
            self._pulse.rest()
            self._around.stops.remove_callback(self.on_stops)
            if self._own is not None:
                self._own.remove_callback(self.abort)
        if self._controller is not None:
            self._controller.abort(self.reason)

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings: the stream is over."""
        self.stop(reason, error)
        self._end_once()

    def close(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Leave nothing behind: the app's call is over."""
        if self._outer is None:
            self._scope.pop(SCOPE_KEY, None)
        else:
            self._scope[SCOPE_KEY] = self._outer
        if self._pulse is None:
            self.stop(reason, error)
        else:
            self.end(reason, error)
            if self._unwatch is not None:
                self._unwatch()
                self._unwatch = None
                self.give_up_reading()
            self._pulse.cancel()
            self._pulse = None
            self._handle = self._send

    def _end_once(self) -> None:
        pulse, reason = self._pulse, self.reason
        if pulse is None or reason is None or self.ended:
            return
        self.ended = True
        fact = StreamEnded(
            path=self._scope["path"],
            reason=reason,
            pings=pulse.count,
            duration=pulse.duration,
            bytes_sent=pulse.bytes_sent,
            error=self._error,
        )
        self._error = None  # its traceback refers to this stream
        report(self._around.observer, fact)

    @property
    def signal(self) -> AbortSignal:
        """The stream's own signal, made when it is first asked for."""
        if self._controller is None:
            self._controller = AbortController()
            if self.reason is not None:
                self._controller.abort(self.reason)
        return self._controller.signal


@final
class KeepaliveStream:
    """An app's view of its own stream; get it with `stream`."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def signal(self) -> AbortSignal:
        """Aborted, with the `StopReason`, as soon as the pings stop for any reason."""
        return self._stream.signal

    @property
    def pings(self) -> int:
        """How many pings have been sent so far."""
        return self._stream.pings

    def abort(self) -> None:
        """Stop the pings of this stream, with `StopReason.ABORTED`.

        From any thread or signal handler. The response itself stays the app's. Once this has
        returned, no further ping is begun. Before the response has started, it takes effect
        as that starts.
        """
        self._stream.abort()


def stream(scope: Scope) -> KeepaliveStream:
    """Return the stream of the request that an app is serving.

    It may be asked for before the response starts, and for responses that turn out to be no
    streams; those have no pings, and their signal is aborted when the app's call is over.

    Args:
        scope: The scope that the app was called with, or a copy of it.

    Raises:
        LookupError: No `KeepaliveMiddleware` is around the app, or the scope is not an HTTP
            request's. When the app's call is over, the scope itself, though not a copy of
            it, has lost its stream too.
    """
    found = scope.get(SCOPE_KEY)
    if not isinstance(found, Stream):
        raise LookupError("no KeepaliveMiddleware is serving this scope")
    return KeepaliveStream(found)
