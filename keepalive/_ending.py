"""How the middleware ends a stream: after `drain`, `max_lifetime` or `send_timeout`.

A `Terminator` is created for requests on routes with such a limit, and only for those. It owns
the request's deadline, and the steps of the end:

    1. The deadline passes (`_on_deadline`), or a send takes too long (`_on_send_timeout`).
    2. The farewell and an empty last body are sent at the next event boundary.
    3. The connection is revoked: the app sees a client that has disconnected.
    4. If its call is still not over a second later, the app is cancelled.

The states of the end (`EndState`)
    IDLE      The response is not a stream, or not yet; or the app's call is over.
    OPEN      The stream is open. There may be a deadline: `max_lifetime` sets one when the
              stream opens, an abort or a shutdown with `drain` sets one or moves it forward.
    ENDING    The deadline has passed. A task (`_end`) waits for the boundary and for the
              middleware's turn to send, for at most BOUNDARY_TIMEOUT. If the boundary does not
              come, the last body is sent where the stream is, without a farewell.
    REVOKED   The end is over for the client. The app has APP_EXIT_TIMEOUT left.

What moves them
    `_opened` leads from IDLE to OPEN, `_on_deadline` from OPEN to ENDING. If the app's own
    last body comes first, nothing is left to do: the state is OPEN again, without a deadline.
    `revoke` leads to REVOKED: after the last body, whether or not it could be sent; when the
    client disconnects while its stream is being ended; after a send timeout. `_closed` leads
    back to IDLE and cancels everything.

Why it waits
    Two turns of the event loop, so that what the app sends at this very time goes first, as it
    does before a ping. Then for a ping that is being sent, as any other sender: otherwise the
    farewell would be lost whenever a client is slow. Each wait is bounded, so that neither an
    app nor a client can keep a stream open.

A disconnect and an app that returns
    After a disconnect nothing more may be sent (a send to an HTTP/2 client that is gone blocks
    forever on hypercorn), and what the app still does is its own affair: the middleware never
    cancels an app because its client disconnected. It only does so when a shutdown has come,
    too, since the server waits for the app then.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, TypeAlias, cast

import anyio
from anyio.lowlevel import checkpoint

from ._connection import TIMED, RevocableConnection, caused_by_disconnect
from ._eventloop import AppCall, Cancel, cancellable
from ._events import StopReason
from ._inflight import APP_EXIT_TIMEOUT
from ._live import LiveStream
from ._ping import Ping
from ._policy import Policy
from ._request import Hooks
from ._responder import Responder
from ._timing import drain_deadline, lifetime_deadline
from ._types import LOGGER, ASGIApp, Receive, Scope, Send, do_nothing

BOUNDARY_TIMEOUT: Final = APP_EXIT_TIMEOUT / 2
"""Seconds that an end waits for the app to finish its event or its send."""

LAST_SEND_TIMEOUT: Final = APP_EXIT_TIMEOUT / 4
"""Seconds that the last body may take if the boundary has not come.

With the other half second, an end takes at most three quarters of the time after which the app
is cancelled.
"""

LOOP_TURNS_FOR_DATA: Final = 2
"""Turns of the event loop in which what the app sends at this very time goes first.

One wakes the app's task, in the next it sends; the scheduler waits for as many before a ping.
"""

EndState: TypeAlias = Literal["idle", "open", "ending", "revoked"]

IDLE: Final = "idle"
"""No stream is open: the response has not started, is not a stream, or the call is over."""
OPEN: Final = "open"
"""A stream is open; it may have a deadline."""
ENDING: Final = "ending"
"""The deadline has passed, and the last body waits for a boundary or is being sent."""
REVOKED: Final = "revoked"
"""The app sees a client that has disconnected."""

_DRAINED: Final = (StopReason.ABORTED, StopReason.SHUTDOWN)
"""The reasons after which `drain` applies."""


@dataclass(slots=True, eq=False)
class Terminator:
    """Ends the stream of one request. Adds its hooks to the request's responder."""

    _responder: Responder
    _policy: Policy
    connection: RevocableConnection
    """What the responder sends to."""
    hooks: Hooks = field(default_factory=Hooks)
    state: EndState = IDLE
    summary: Callable[[], Ping] | None = None
    """Called for what is sent just before the last body, instead of the farewell."""
    _app_call: AppCall = field(default_factory=cancellable)
    _deadline: float = inf
    _cancel_timer: Cancel = do_nothing
    _cancel_end: Cancel = do_nothing

    def __post_init__(self) -> None:
        self._responder.hooks = self.hooks
        self.hooks.opened = self._opened
        self.hooks.stopped = self._stopped
        self.hooks.ended = self._ended
        self.hooks.closed = self.closed

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app. Suppresses what it raises because its stream was ended."""
        try:
            with self._app_call:
                await app(scope, receive, send)
        except Exception as error:
            if not (self.state is REVOKED and caused_by_disconnect(error)):
                raise
            LOGGER.debug("an app ended with its stream", exc_info=error)

    # Hooks: what happens to the stream

    def _opened(self) -> None:
        self.state = OPEN
        self.connection.state = TIMED
        self.connection.on_send_timeout = self._on_send_timeout
        policy, live = self._policy, self._live
        if policy.drain is not None:
            self._responder.config.in_flight.add(self, policy.drain)
        if policy.max_lifetime is not None:
            self._end_at(lifetime_deadline(policy.max_lifetime, live.started))
        if self._responder.reason is not None:
            self._stopped()

    def _stopped(self) -> None:
        reason = self._responder.reason
        if reason in _DRAINED:
            self._drain()
        elif self._policy.drain is not None and reason is not StopReason.COMPLETED:
            # The app may continue, and a shutdown may still come.
            self._responder.config.stop_signal.add_callback(self._on_shutdown)

    def _ended(self) -> None:
        if self.state not in (OPEN, ENDING):
            return
        responder, saw_last_body = self._responder, self._live.saw_last_body
        stop_signal = responder.config.stop_signal
        if self.state is ENDING and not saw_last_body:
            self.revoke()  # the client has disconnected while the stream was being ended
        elif saw_last_body or not (responder.reason in _DRAINED or stop_signal.aborted):
            self._cancel_timers()  # what the app still does is its own affair

    def closed(self) -> None:
        """Called when the app's call is over."""
        self.state = IDLE
        self.hooks.clear()
        self._responder.config.in_flight.discard(self)
        self._cancel_timers()
        self._responder.config.stop_signal.remove_callback(self._on_shutdown)
        # A send that outlives the call may still time out, and its error names the reason.
        self.connection.reason = self._responder.reason
        self.connection.on_send_timeout, self.summary = do_nothing, None

    # The deadline

    @property
    def _live(self) -> LiveStream:
        return cast("LiveStream", self._responder.live)  # in every state but IDLE

    def _on_shutdown(self) -> None:
        """Drain at a shutdown that comes after the pings have stopped. From any thread."""
        if (live := self._responder.live) is not None:
            live.scheduler.loop.wake(self._drain)

    def _drain(self) -> None:
        drain, live = self._policy.drain, self._responder.live
        if drain is None or live is None or live.is_complete:
            return
        # A stream that stops alone is not spread; nor is one whose app has asked for its
        # signal, since it may be about to end by itself: it gets all of the time.
        alone = len(live.scheduler) == 0 or self._responder.is_watched
        spread = self._responder.config.stop_signal.aborted and not alone
        self._end_at(drain_deadline(drain, live.scheduler.time(), spread=spread))

    def _end_at(self, when: float) -> None:
        """End the stream at that time, or earlier if that is already planned."""
        if when < self._deadline and self.state is not REVOKED:
            self._deadline = when
            self._set_timer(when, self._on_deadline)

    def _set_timer(self, when: float, callback: Callable[[], object]) -> None:
        self._cancel_timer()
        self._cancel_timer = self._live.scheduler.loop.call_at(when, callback)

    def _cancel_timers(self) -> None:
        self._deadline = inf
        for cancel in (self._cancel_timer, self._cancel_end):
            with suppress(RuntimeError):  # the event loop may have been closed
                cancel()
        self._cancel_timer = self._cancel_end = do_nothing
        if self.state is ENDING:
            self.state = OPEN

    # The end

    def _on_deadline(self) -> None:
        self._cancel_timer = do_nothing
        live = self._live
        live.context.run(live.stop, StopReason.MAX_LIFETIME)
        if live.ended:  # the client has disconnected, and nothing more may be sent
            self.revoke()
        else:
            self.state = ENDING
            self._cancel_end = live.scheduler.loop.spawn(self._end, live.context, do_nothing)

    async def _end(self) -> None:
        """End the stream at the next boundary, or where it is if that does not come."""
        for _ in range(LOOP_TURNS_FOR_DATA):
            await checkpoint()
        live = self._live
        with anyio.move_on_after(BOUNDARY_TIMEOUT):
            await live.wait_turn()
            if self._can_finish:
                await self._finish()
            else:
                self.hooks.after_send = self._finish_at_boundary
                await anyio.sleep_forever()
        if self.state is ENDING and not live.is_busy:
            with anyio.move_on_after(LAST_SEND_TIMEOUT):
                await self._send_last(None)
        self.revoke()

    @property
    def _can_finish(self) -> bool:
        live = self._responder.live
        if live is None or live.is_busy:
            return False
        return live.is_at(live.plan.closing_boundary)

    async def _finish_at_boundary(self) -> None:
        """Called after each message of the app, while the end waits for a boundary."""
        if self._can_finish:
            await self._finish()

    async def _finish(self) -> None:
        """Send the farewell and the last body."""
        farewell = self._live.plan.farewell if self.summary is None else self.summary()
        await self._send_last(farewell)

    async def _send_last(self, farewell: Ping | None) -> None:
        """Send the last body. If that fails, it is not tried again."""
        try:
            await self._live.send_last(farewell)
        except Exception as error:  # the app sees the disconnect all the same
            LOGGER.debug("a stream could not be ended cleanly", exc_info=error)
        finally:
            self.revoke()

    def _on_send_timeout(self) -> None:
        self._live.stop(StopReason.SEND_TIMEOUT)
        self.revoke()

    def revoke(self) -> None:
        """Make the app see a disconnect now, and cancel it if it does not end."""
        if self.state in (OPEN, ENDING):
            self.complete()
            self._live.report_end()
            self.connection.interrupt()
            now = self._live.scheduler.time()
            when = min(now, self._deadline) + APP_EXIT_TIMEOUT
            self._set_timer(when, self._app_call.cancel)

    def complete(self) -> None:
        """Make the app see a disconnect from its next call on: it has sent its last body."""
        self.state = REVOKED
        self._cancel_timer()
        self.hooks.after_send = None
        self.connection.revoke(self._responder.reason)
