"""How the middleware ends a stream: after `drain`, or when it reaches a limit.

A `Terminator` is created for requests on routes with such a limit, and only for those. It owns
the request's deadline, the steps of the end, and what the app sees of it.

The steps
    1. The deadline passes (`_on_deadline`), or the app has sent nothing for too long
       (`_check_silence`), or a send takes too long (`_on_send_timeout`).
    2. The farewell and an empty last body are sent at the next event boundary.
    3. The connection is revoked: the app sees a disconnect.
    4. One second after the deadline, the app is cancelled if it has not reacted.

The states of the end (`EndState`)
    IDLE      There is no stream, or not yet; or the app's call is over.
    OPEN      There is a stream. It may have a deadline: `max_lifetime` sets one when the start
              is sent, an abort or a shutdown with `drain` sets one or moves it forward.
    ENDING    The deadline has passed. A task (`_end`) waits for the boundary and for the
              middleware's turn to send, for at most BOUNDARY_TIMEOUT. If the boundary does not
              come, the last body is sent where the stream is, without a farewell.
    REVOKED   For the client the stream has ended. The app has time to return until `_exit_at`.

What moves them
    `_opened` leads from IDLE to OPEN, and `_rejected` back. `_on_deadline` leads to ENDING. If
    the app's own last body comes first, nothing is left to do: the state is OPEN again,
    without a deadline. `revoke` leads to REVOKED: after the last body, whether or not it could
    be sent; when the client disconnects while its stream is being ended; after a send timeout.
    `closed` leads to IDLE, unless the state is REVOKED, and cancels the timers.

What the app sees (`_activity.AppState`)
    The same as on a real server when the client disconnects (as measured on uvicorn,
    hypercorn, granian and daphne): `receive` returns `http.disconnect`, and what is sent after
    that is silently discarded. This applies to an app that listens. It must not get an error
    from a send instead: if it sends all the time, the error would reach it before the
    disconnect does, and frameworks would skip background tasks and close generators in other
    tasks. An app that does not listen would never notice, so it gets an `OSError`, as ASGI 2.4
    specifies.

After a disconnect
    Nothing more may be sent after a disconnect (on hypercorn, a send to a disconnected HTTP/2
    client blocks forever). The app may continue: the middleware never cancels an app because
    its client disconnected. It does so only after a shutdown or an abort with `drain`, since
    the server or a user then waits for the app, or if the client disconnects while the stream
    is being ended anyway.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final, Literal, TypeAlias, cast

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from . import _connection as connections
from ._abort import WeakCallback
from ._activity import NOTIFIED, AppActivity, Silence
from ._connection import ClientDisconnected, RevocableConnection, caused_by_disconnect
from ._eventloop import Cancel, CancellableBlock, cancellable, must_propagate, try_spawn
from ._events import StopReason
from ._inflight import APP_EXIT_TIMEOUT
from ._live import ENDED, LiveStream
from ._ping import Ping
from ._policy import Policy
from ._request import Hooks
from ._responder import Responder
from ._scheduler import PingScheduler
from ._timing import drain_deadline, lifetime_deadline
from ._types import LOGGER, ASGIApp, Receive, Scope, Send, do_nothing

BOUNDARY_TIMEOUT: Final = APP_EXIT_TIMEOUT / 2
"""Seconds to wait for the app to finish its event or its send."""

LAST_SEND_TIMEOUT: Final = APP_EXIT_TIMEOUT / 4
"""Seconds that the last body may take if the boundary has not come.

Together with BOUNDARY_TIMEOUT, three quarters of the time after which the app is cancelled.
"""

LOOP_TURNS_FOR_DATA: Final = 2
"""Turns of the event loop to wait, so that what the app sends at this very time goes first.

The first one wakes the app's task, which sends in the second; the scheduler waits for the same
number before a ping.
"""

APP_REACTION_TIME: Final = APP_EXIT_TIMEOUT / 2
"""Seconds after the end in which an app that was notified of the disconnect may still send.

Frameworks need some turns of the event loop to stop whatever sends (BaseHTTPMiddleware needs
several), and those may take long while many streams are being ended.
"""

EndState: TypeAlias = Literal["idle", "open", "ending", "revoked"]

IDLE: Final = "idle"
"""There is no stream: the response is not one, or has not started, or the call is over."""
OPEN: Final = "open"
"""There is a stream; it may have a deadline."""
ENDING: Final = "ending"
"""The deadline has passed, and the last body waits for a boundary or is being sent."""
REVOKED: Final = "revoked"
"""The app sees a disconnect."""

_DRAINED: Final = (StopReason.ABORTED, StopReason.SHUTDOWN)
"""The reasons after which `drain` applies."""


@dataclass(slots=True, eq=False, weakref_slot=True)
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
    activity: AppActivity = field(default_factory=AppActivity)
    """Whether the app listens."""
    _app_call: CancellableBlock = field(default_factory=cancellable)
    _app_cancelled: bool = False
    _deadline: float = inf
    _exit_at: float = inf
    """When the app is cancelled if it has not reacted."""
    _reacts_until: float = inf
    """Until when an app that was notified of the disconnect may still send."""
    _late_send_at: float = -inf
    """When the app last called `send` after the end."""
    _is_draining: bool = False
    _shutdown_began: float = inf
    """When all streams were stopped: by the signal of all, or by the server."""
    _shutdown_callback: WeakCallback | None = None
    """On the middleware's stop signal, once the pings have stopped for another reason."""
    _cancel_timer: Cancel = do_nothing
    _cancel_silence: Cancel = do_nothing
    _watched: float = inf
    """When `max_silence` will be reached, if nothing more is sent."""
    _cancel_end: Cancel = do_nothing

    def __post_init__(self) -> None:
        self._responder.hooks = self.hooks
        self.hooks.opened = self._opened
        self.hooks.rejected = self._rejected
        self.hooks.stopped = self._stopped
        self.hooks.aborted = self._drain
        self.hooks.ended = self._ended
        self.hooks.closed = self.closed
        self.connection.discard = self._discard
        if self._responder.nesting is not None:
            self._responder.nesting.observe(self.activity)

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app. Suppresses what it raises because its stream was ended.

        Args:
            app: The app.
            scope: Its scope.
            receive: The responder's, or an `EarlyStart`'s.
            send: The same.
        """
        try:
            with self._app_call:
                try:
                    await app(scope, partial(self.activity.receive, receive), send)
                except BaseException as error:
                    self._log_lost_errors(error)
                    raise
        except Exception as error:
            if not (self.state is REVOKED and caused_by_disconnect(error)):
                raise
            LOGGER.debug("an app ended with its stream", exc_info=error)

    def _log_lost_errors(self, error: BaseException) -> None:
        """Log what the app has raised before its cancellation, which replaces it."""
        lost = error.__context__
        is_own = isinstance(lost, Exception) and not isinstance(lost, ClientDisconnected)
        if self._app_cancelled and must_propagate(error) and is_own:
            LOGGER.error("an app was cancelled while it handled an error", exc_info=lost)

    # What the app sees

    async def _discard(self) -> None:
        """Discard a message of the app, or raise an `OSError` if the app does not listen."""
        await self._discard_function()

    async def discard_late(self) -> None:
        """Discard a message that the app sends after the end."""
        self._note_late_send()
        await self._discard_function()

    def _note_late_send(self) -> None:
        if (live := self._responder.live) is not None:
            self._late_send_at = live.scheduler.time()
            if self._late_send_at >= self._exit_at:
                self._cancel_app()

    @property
    def _observed(self) -> AppActivity:
        """What observes the app: the innermost middleware's, since others read ahead."""
        nesting = self._responder.nesting
        return (nesting and nesting.innermost_activity) or self.activity

    @property
    def _discard_function(self) -> Callable[[], Awaitable[None]]:
        """A function that does not refer to this object, for sends that outlive the call."""
        if self._observed.is_listening:
            # One turn of the event loop, so that a busy app does not block it. Shielded from
            # the app's cancel scopes, so that their cancellation is not delivered in a send,
            # where it never is on a server that discards. Unless the app has been cancelled:
            # a task of the app that does nothing but send would never notice.
            return checkpoint if self._app_cancelled else cancel_shielded_checkpoint
        return partial(_raise_disconnected, self._responder.reason)

    # Hooks: what happens to the stream

    def _opened(self) -> None:
        self.state = OPEN
        self.connection.state = connections.OPEN
        self.connection.on_send_timeout = self._on_send_timeout
        policy, live = self._policy, self._live
        if policy.drain is not None:
            self._responder.config.in_flight.add(live.scheduler, self)
        if policy.max_lifetime is not None:
            self._end_at(lifetime_deadline(policy.max_lifetime, live.started))
        silence = self.observe_silence(live.scheduler)
        if silence is not None:
            silence.begin()
            self._watch_silence(silence)
        if self._responder.reason is not None:
            self._stopped()

    def _rejected(self) -> None:
        self.state = IDLE
        self._is_draining = False
        self.hooks.after_send = self.hooks.silence = None
        self.connection.state = connections.DIRECT
        self._forget()

    def _stopped(self) -> None:
        reason = self._responder.reason
        if reason in _DRAINED:
            self._drain()
        elif self._policy.drain is not None and reason is not StopReason.COMPLETED:
            # The app may continue, and a shutdown may still come.
            signal = self._responder.config.stop_signal
            self._shutdown_callback = WeakCallback(signal, self._on_shutdown)
            signal.add_callback(self._shutdown_callback)

    def _ended(self) -> None:
        if self.state not in (OPEN, ENDING):
            return
        self._unwatch_silence()  # after a disconnect the app may continue
        is_complete = self._live.is_complete
        if self.state is ENDING and not is_complete:
            self.revoke()  # the client has disconnected while the stream was being ended
        elif is_complete or not self._must_exit:
            self._cancel_timers()  # the app may continue

    @property
    def _must_exit(self) -> bool:
        """Whether a shutdown or an abort still waits for an app whose client is gone."""
        reason, stop_signal = self._responder.reason, self._responder.config.stop_signal
        stopping = self._is_draining or reason in _DRAINED or stop_signal.aborted
        return stopping and self._policy.drain is not None

    def closed(self) -> None:
        """Called when the app's call is over. Tasks that it has left behind may still send."""
        if self._responder.live is not None:
            self._forget()
        if self.state is not REVOKED:
            self.state = IDLE
            self.connection.state = connections.DIRECT
        self.hooks.clear()
        self.connection.on_send_timeout, self.summary = do_nothing, None
        self.connection.discard = self._discard_function

    def _forget(self) -> None:
        self._cancel_timers()
        config = self._responder.config
        if self._shutdown_callback is not None:
            config.stop_signal.remove_callback(self._shutdown_callback)
        config.in_flight.discard(self._live.scheduler, self)

    # The deadline

    @property
    def _live(self) -> LiveStream:
        return cast("LiveStream", self._responder.live)  # in every state but IDLE

    def shut_down(self) -> float:
        """Stop the stream: the server of its event loop is shutting down.

        Returns when the time for this is over, in loop time: `drain` seconds after all streams
        were stopped, which may have been before. The stream must have a `drain`.
        """
        live = self._live
        self._shutdown_began = min(self._shutdown_began, live.scheduler.time())
        if self._responder.reason is None:
            live.context.run(live.stop, StopReason.SHUTDOWN)
        else:
            self._drain()
        return self._shutdown_began + cast("float", self._policy.drain)

    def _on_shutdown(self) -> None:
        """Drain at a shutdown that comes after the pings have stopped. From any thread."""
        if (live := self._responder.live) is not None:
            live.scheduler.loop.wake(self._drain)

    def _drain(self) -> None:
        drain, live = self._policy.drain, self._responder.live
        if drain is None or live is None:
            return
        now = live.scheduler.time()
        if self._responder.config.stop_signal.aborted:
            self._shutdown_began = min(self._shutdown_began, now)
        if live.is_complete or self._is_draining:
            return
        self._is_draining = True
        # A stream that stops alone gets the full time; so does one whose app has used its
        # signal, since it may be about to end by itself.
        streams = len(live.scheduler) - self._responder.scheduled_outers
        alone = streams == 0 or self._responder.is_app_watching
        is_shutdown = self._shutdown_began < inf
        self._end_at(drain_deadline(drain, now, spread=is_shutdown and not alone))

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
        self._unwatch_silence()
        with suppress(RuntimeError):  # the event loop may have been closed
            self._cancel_timer()
            self._cancel_end()
        self._cancel_timer = self._cancel_end = do_nothing
        if self.state is ENDING:
            self.state = OPEN

    # The app's silence

    def observe_silence(self, scheduler: PingScheduler) -> Silence | None:
        """Observe how long the app is silent, if that is limited."""
        if self.hooks.silence is None and self._policy.max_silence is not None:
            self.hooks.silence = Silence(scheduler.time)
        return self.hooks.silence

    def _watch_silence(self, silence: Silence) -> None:
        """Set the timer to when `max_silence` will be reached, if nothing more is sent."""
        silence.on_resumed = do_nothing
        self._watched = when = self._silence_ends_at(silence)
        loop = self._live.scheduler.loop
        check = partial(self._check_silence, silence, when)
        # Two turns later, so that what the app sends at that very time goes first.
        self._cancel_silence = loop.call_at(
            when, lambda: loop.call_soon(lambda: loop.call_soon(check))
        )

    def _silence_ends_at(self, silence: Silence) -> float:
        limit = cast("float", self._policy.max_silence)
        return silence.ends_at(limit, self._live.last_data)

    def _check_silence(self, silence: Silence, watched: float) -> None:
        if self.state is not OPEN or self._watched != watched:
            return
        self._live.leave_quick_mode()  # so that a send in progress pauses it
        if silence.is_paused:
            silence.on_resumed = partial(self._watch_silence, silence)
        elif self._silence_ends_at(silence) > watched:
            self._watch_silence(silence)
        else:
            self._deadline = min(self._deadline, self._live.scheduler.time())
            self._on_deadline(StopReason.SILENT)

    def _unwatch_silence(self) -> None:
        """Stop observing the silence and the sends in progress."""
        self._watched = inf
        with suppress(RuntimeError):  # the event loop may have been closed
            self._cancel_silence()
        self._cancel_silence = do_nothing
        if self.hooks.silence is not None:
            self.hooks.silence.on_resumed = do_nothing

    # The end

    def _on_deadline(self, reason: StopReason = StopReason.MAX_LIFETIME) -> None:
        self._unwatch_silence()
        self._cancel_timer()
        self._cancel_timer = do_nothing
        live = self._live
        # If it is a drain that is over, the stream has stopped, and the first reason wins.
        live.context.run(live.stop, reason)
        if self.state is REVOKED:  # a complete summary of its response could not be sent
            self._limit_app()
            return
        if live.report is ENDED:  # the client has disconnected, and nothing more may be sent
            self.revoke()
            return
        self.state = ENDING
        cancel = try_spawn(live.scheduler.loop, self._end, live.context)
        if cancel is None:
            self.revoke()
        else:
            self._cancel_end = cancel

    async def _end(self) -> None:
        """End the stream at the next boundary, or where it is if that does not come."""
        for _ in range(LOOP_TURNS_FOR_DATA):
            await checkpoint()
        live = self._live
        with cancellable(BOUNDARY_TIMEOUT):
            await live.wait_turn()
            if self._can_finish:
                await self._finish()
            else:
                self.hooks.after_send = self._finish_at_boundary
                await anyio.sleep_forever()
        if self.state is ENDING and not live.is_busy:
            with cancellable(LAST_SEND_TIMEOUT):
                await self._send_last(None if self.summary is None else self.summary())
        self.revoke()

    @property
    def _can_finish(self) -> bool:
        live = self._responder.live
        if live is None or live.is_busy:
            return False
        nesting = self._responder.nesting
        if nesting is not None and nesting.inner_is_finishing:  # its farewell is the only one
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
        except Exception as error:  # the app sees the disconnect nevertheless
            LOGGER.debug("a stream could not be ended cleanly", exc_info=error)
        finally:
            self.revoke()

    def _on_send_timeout(self) -> None:
        self._live.stop(StopReason.SEND_TIMEOUT)
        self.revoke()

    def revoke(self) -> None:
        """Make the app see a disconnect now, and cancel it if it does not react."""
        if self.state in (OPEN, ENDING):
            self.revoke_after_last_body()
            self._live.report_end()
            self.connection.interrupt()
            self._limit_app()

    def revoke_after_last_body(self) -> None:
        """Make the app see a disconnect from its next call on, without cancelling it later."""
        self.state = REVOKED
        self.connection.state = connections.REVOKED
        live = self._responder.live
        if live is None:  # called by a task that the app has left behind
            return
        self.hooks.after_send = None
        self.hooks.discard = self.discard_late
        if self._responder.nesting is not None:
            # Not now: this may be within a send of an inner middleware, which is yet to count
            # what it has sent.
            live.scheduler.loop.call_soon(self._responder.disconnect_inners)

    def _limit_app(self) -> None:
        now = self._live.scheduler.time()
        self._exit_at = min(now, self._deadline) + APP_EXIT_TIMEOUT
        self._reacts_until = min(now + APP_REACTION_TIME, self._exit_at)
        self._set_timer(self._exit_at, self._on_exit_timeout)

    def _on_exit_timeout(self) -> None:
        has_reacted = self._late_send_at < self._reacts_until
        if not (self._observed.state is NOTIFIED and has_reacted):
            self._cancel_app()

    def _cancel_app(self) -> None:
        self._app_cancelled = True
        self._app_call.cancel()


async def _raise_disconnected(reason: StopReason | None) -> None:
    raise ClientDisconnected.after(reason)
