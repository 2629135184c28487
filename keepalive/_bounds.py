"""Bounds: a stream that its policy may end, and how it is ended.

Law: farewell, last body, then what a gone client looks like, then cancellation; in that
order, each within its time. Knows no other stream; made only where a policy asks for it.

Source: ASGI 2.4, "Disconnected Client - send exception".
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import Final, cast

import anyio
from anyio.lowlevel import checkpoint
from typing_extensions import override

from ._asgi import DISCONNECT, ASGIApp, Message, Receive, Scope, Send
from ._backend import Cancel, cancellable
from ._frames import Ping
from ._gone import ClientGoneError, comes_of_the_end
from ._observe import LOGGER, StopReason
from ._policy import STEP, Last, Placed, Policy, placed_farewell
from ._pulse import Pulse
from ._routes import Choice
from ._stream import Stream
from ._surroundings import Surroundings
from ._times import drained_at, lifetime_over

PATIENCE: Final = STEP / 2
"""Seconds that an end waits for the app to end its event, or its send."""

LAST_WRITE: Final = STEP / 4
"""Seconds that the last body may take where the stream stands within an event."""

TURNS_FOR_DATA: Final = 2
"""Turns of the loop in which what the app sends at this very time goes first."""

_DRAINED: Final = (StopReason.ABORTED, StopReason.SHUTDOWN)


class BoundedStream(Stream):
    """A stream with a `drain`, a `max_lifetime` or a `send_timeout`."""

    __slots__ = (
        "_block",
        "_cancel_end",
        "_cancel_timer",
        "_due",
        "_ending",
        "_last",
        "_policy",
        "_server",
        "_waits",
        "over",
    )

    def __init__(
        self,
        around: Surroundings,
        choice: Choice,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        super().__init__(around, choice, scope, self._ask, send)
        self._policy: Policy = choice.policy
        self._server = receive, send
        self._waits: set[anyio.CancelScope] = set()
        self._block = cancellable()
        self._due = inf  # when it is to be ended
        self._cancel_timer: Cancel | None = None
        self._cancel_end: Cancel | None = None
        self._ending = False  # as soon as it may be
        self._last: Last = (None, "event")
        self.over = False  # by the middleware's doing

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app, and leave behind what comes of having ended its stream."""
        try:
            with self._block:
                await app(scope, receive, send)
        except Exception as error:
            if not (self.over and comes_of_the_end(error)):
                raise
            LOGGER.debug("an app ended with its stream", exc_info=error)

    # What the app and the server are given

    @override
    def send(self, message: Message) -> Awaitable[None]:
        if self.over or self._pulse is not None:
            return self._send(message)
        return super().send(message)

    async def _send(self, message: Message) -> None:
        self._check()
        await super().send(message)
        if self._ending and self._may_finish:
            await self._finish(self._last[0])

    def _check(self) -> None:
        if self.over:
            raise self._gone_error

    @property
    def _gone_error(self) -> ClientGoneError:
        return ClientGoneError(f"the stream has been ended: {self.reason}")

    async def _write(self, message: Message) -> None:
        """Hand a message to the server, as long as that may take."""
        self._check()
        with anyio.move_on_after(self._policy.send_timeout) as scope:
            self._waits.add(scope)
            try:
                await self._server[1](message)
            finally:
                self._waits.remove(scope)
        if scope.cancelled_caught:
            self.stop(StopReason.SEND_TIMEOUT)
            self._leave()
            raise self._gone_error

    async def _ask(self) -> Message:
        """Ask the server, until the middleware has ended the stream."""
        if not self.over:
            with anyio.CancelScope() as scope:
                self._waits.add(scope)
                try:
                    return await self._server[0]()
                finally:
                    self._waits.remove(scope)
        return {"type": DISCONNECT}

    # The stream's course

    @override
    async def _open(
        self, message: Message, policy: Policy, placed: Placed, media_type: str
    ) -> None:
        self._last = placed_farewell(policy, media_type, placed)
        await super()._open(message, policy, placed, media_type)

    @override
    def _follow_signals(self) -> None:
        self.pass_on = self._write
        policy, stopped_before = self._policy, self.reason is not None
        if policy.drain is not None:
            self._around.calls.join(self, policy.drain)
        if policy.max_lifetime is not None:
            self._end_by(lifetime_over(policy.max_lifetime, self._open_pulse.started))
        super()._follow_signals()
        if stopped_before:
            self._plan()

    @override
    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        stopped_before = self.reason is not None
        super().stop(reason, error)
        if not stopped_before and self._pulse is not None:
            self._plan()

    def _plan(self) -> None:
        """See what the stop of the pings means for what is left of the stream."""
        if self.reason in _DRAINED:
            self._drain()
        elif self._policy.drain is not None and self.reason is not StopReason.COMPLETED:
            self.stops.add_callback(self._hear)  # the app may go on, a shutdown may still come

    def _hear(self) -> None:
        """Hear that all streams are to stop, from any thread, when the pings have stopped."""
        if (pulse := self._pulse) is not None:
            pulse.heart.loop.wake(self._drain)

    def _drain(self) -> None:
        drain, pulse = self._policy.drain, self._pulse
        if drain is None or pulse is None or pulse.complete:
            return
        heart = pulse.heart
        # Who was told may be about to end by himself, and knows how long he may take.
        spread = self.stops.aborted and len(heart) > 0 and self._controller is None
        self._end_by(drained_at(drain, heart.time(), spread=spread))

    @override
    def _end_once(self) -> None:
        super()._end_once()
        if self.over or self._pulse is None:
            return
        if self._cancel_end is not None and not self._pulse.finishing:
            self._leave()  # the client has left while the stream was being ended
        elif self._pulse.finishing or not (self.reason in _DRAINED or self.stops.aborted):
            self._drop()  # what the app still does is its own affair

    @override
    def close(
        self,
        reason: StopReason = StopReason.COMPLETED,
        error: BaseException | None = None,
    ) -> None:
        if self._pulse is None:  # no stream
            super().close(reason, error)
        else:
            self._around.calls.leave(self)
            self._drop()  # what is under way is of no account any more
            super().close(reason, error)
            self._drop()
            self.stops.remove_callback(self._hear)
        self._receive, self.pass_on = self._server  # else they would refer to this stream
        self.gone |= self.over

    # The end

    @property
    def _open_pulse(self) -> Pulse:
        return cast("Pulse", self._pulse)

    @property
    def _may_finish(self) -> bool:
        pulse = self._pulse
        return pulse is not None and not pulse.busy and pulse.stands_at(self._last[1])

    def _end_by(self, when: float) -> None:
        """Have the stream ended at this time, unless that is to be earlier."""
        if when < self._due and not self.over:
            self._due = when
            self._set_timer(when, self._time_is_up)

    def _set_timer(self, when: float, what: Callable[[], None]) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
        self._cancel_timer = self._open_pulse.heart.loop.call_at(when, what)

    def _drop(self) -> None:
        """End nothing any more."""
        self._due = inf
        for cancel in (self._cancel_timer, self._cancel_end):
            if cancel is not None:
                with suppress(RuntimeError):  # the loop may have been closed by now
                    cancel()
        self._cancel_timer = self._cancel_end = None

    def _time_is_up(self) -> None:
        self._cancel_timer = None
        pulse = self._open_pulse
        pulse.context.run(self.stop, StopReason.MAX_LIFETIME)
        if self.ended:  # the client has left, and nothing more may be sent
            self._leave()
        else:
            self._cancel_end = pulse.heart.loop.spawn(self._end, pulse.context, _nothing)

    async def _end(self) -> None:
        """End the stream at the next boundary; where it stands, if that fails to come."""
        for _ in range(TURNS_FOR_DATA):
            await checkpoint()
        with anyio.move_on_after(PATIENCE):
            await self._open_pulse.wait_in_line()
            if self._may_finish:
                await self._finish(self._last[0])
            else:
                self._ending = True
                await anyio.sleep_forever()
        if not (self.over or self._pulse is None or self._pulse.busy):
            with anyio.move_on_after(LAST_WRITE):
                await self._finish(None)
        self._leave()

    async def _finish(self, farewell: Ping | None) -> None:
        """Send the last there is; whatever becomes of it, there is no second try."""
        try:
            await self._open_pulse.finish(farewell)
        except Exception as error:  # the app is told all the same
            LOGGER.debug("a stream could not be ended cleanly", exc_info=error)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Have the app see what a gone client looks like; cancel it if that is not enough."""
        if self.over or self._pulse is None:
            return
        self.over = True
        self._end_once()
        for scope in [*self._waits]:
            scope.cancel()
        now = self._pulse.heart.time()
        self._set_timer(min(now, self._due) + STEP, self._block.cancel)


def _nothing() -> None:
    """Do nothing, when an end is over."""
