"""Decides whether a response is kept alive; until then it only passes messages on."""

from collections.abc import Awaitable, Iterator
from contextvars import Context
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from ._abort import AbortController, AbortSignal
from ._config import Config
from ._events import StopReason
from ._headers import classify, may_be_stream, with_anti_buffering, with_reusable_headers
from ._live import NOTHING, LiveStream
from ._nesting import OUTER, Nesting
from ._request import OPEN, Request
from ._routing import Plan, Route
from ._types import BODY, START, Message, Receive, Scope, SendNow

SCOPE_KEY: Final = "asgi-keepalive"
"""The key under which a request's scope holds its responder while the app runs."""

ResponseState: TypeAlias = Literal["undecided", "forwarding", "live", "closed"]

UNDECIDED: Final = "undecided"
"""The response has not started, apart from 1xx responses."""
FORWARDING: Final = "forwarding"
"""The response is not kept alive: every message is passed through unchanged."""
LIVE: Final = "live"
"""The response is kept alive, by `Responder.live`."""
CLOSED: Final = "closed"
"""The app's call is over."""


_SEEN_BY_ALL: Final = (StopReason.COMPLETED, StopReason.APP_FAILED)
"""What the app does itself. Each nested middleware sees it."""


class Responder(Request):
    """Responds to one request. It inherits the request's state, so that both are one object.

    Args:
        config: What all requests of the middleware share.
        route: Its route. For an excluded path, any: `exclude` is called then.
        scope: The connection's.
        receive: The server's, or a `RevocableConnection`'s.
        send: The same.
    """

    __slots__ = ("live", "route", "state")

    nesting: "Nesting[Responder] | None"
    state: ResponseState
    live: LiveStream | None
    """The open stream, in the state `LIVE`."""

    def __init__(
        self, config: Config, route: Route, scope: Scope, receive: Receive, send: SendNow
    ) -> None:
        # Those of `Request` as well: a constructor that calls another one takes 0.1 us more,
        # which is a twentieth of what a plain response costs.
        self.config = config
        self.route = route
        self.scope = scope
        self.server_send = send
        self._server_receive = receive
        self.state = UNDECIDED
        self.inbound = OPEN
        self.is_reading = self.abort_requested = False
        self.live = self.hooks = self.nesting = self.reason = None
        self._read_ahead = self._controller = None
        self.pings = 0
        outer: Responder | None = scope.get(SCOPE_KEY)
        if outer is not None and outer.state is not CLOSED:  # of a copy made before
            self._nest(outer)
        scope[SCOPE_KEY] = self

    def __deepcopy__(self, _: object) -> "Responder":
        # hypercorn's ProxyFixMiddleware copies scopes; a server's objects can't be copied.
        return self

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app: the app's `send`."""
        live = self.live
        if live is not None:
            return live.send(message)
        if self.state is UNDECIDED:
            kind = message.get("type")
            if kind == START:
                if may_be_stream(message, self.route.other_types):
                    return self._start(with_reusable_headers(message), self.route)
                self.state = FORWARDING
            elif kind == BODY:  # its start is still being sent, or missing
                self.state = FORWARDING
        sending: Awaitable[None] = self.server_send(message)  # never `None` without a stream
        return sending

    def _start(self, message: Message, route: Route) -> Awaitable[None]:
        kind, media_type = classify(message, route.plans)
        if kind == "stream":
            self.claim()
            return self.open(message, route.plans[media_type])
        if kind == "compressed" and self.sends_pings:
            self.config.warn_compressed(route.pattern)
        if kind != "informational":
            self.state = FORWARDING
        sending: Awaitable[None] = self.server_send(message)
        return sending

    async def open(self, message: Message, plan: Plan) -> None:
        """Start a response that is kept alive."""
        if self.live is not None:  # another task of the app has started it at the same time
            await self.live.send(message)
            return
        self.config.before_stream()
        if self.hooks is not None:
            self.hooks.trailers = bool(message.get("trailers"))
        plan = plan.for_request(self.scope, message)
        self.live = live = LiveStream(self, plan)
        self.state = LIVE
        try:
            headers = plan.policy.anti_buffering
            await live.start(with_anti_buffering(message) if headers else message)
        except BaseException:
            if live.report is NOTHING and self.live is live:
                self._reopen(live)
            raise

    def _reopen(self, live: LiveStream) -> None:
        """Allow another response start: the server has rejected this one."""
        live.cancel_start()
        if self.hooks is not None:
            self.hooks.rejected()
        self.live = None
        self.state = UNDECIDED
        self.release()

    # Nested middlewares

    def _nest(self, outer: "Responder") -> None:
        """Link it to the responder that the scope holds."""
        if outer.scope is self.scope and outer.config.in_flight is self.config.in_flight:
            # Another call of this middleware with the same scope, at the same time.
            around = None if outer.nesting is None else outer.nesting.outer
        else:
            if outer.nesting is None:
                outer.nesting = Nesting(outer, None)
            around = outer.nesting
        if around is not None:
            self.nesting = Nesting(self, around)
            self.reason = around.responder.reason

    def _leave_scope(self, nesting: "Nesting[Responder]") -> None:
        """Return the scope to the responder around this one, unless its call is over, too."""
        if nesting.outer is not None and nesting.outer.responder.state is not CLOSED:
            self.scope[SCOPE_KEY] = nesting.outer.responder

    def _leave_nest(self, nesting: "Nesting[Responder]") -> None:
        """Unlink it: its call is over. Those around it may have other responses."""
        nesting.leave()
        for outer in nesting.outward:
            if outer.responder.state is UNDECIDED:
                outer.reclaim()
        self.nesting = None  # they refer to each other

    def claim(self) -> bool:
        """Make this middleware send the pings, and not those around it.

        Returns whether it does. It does not if one within it does, or if one around it has
        begun to.
        """
        if self.nesting is None:
            return True
        if not self.sends_pings:
            return False
        if any(outer.responder.has_begun for outer in self.nesting.outward):
            self.nesting.pinger = OUTER
            return False
        self.nesting.claim()
        for outer in self.nesting.outward:
            # The same middleware twice, as after an internal redirect, serves one stream.
            if outer.responder.config.in_flight is self.config.in_flight:
                outer.responder.state = FORWARDING
        return True

    def release(self) -> None:
        """Undo `claim`: the response has not started after all."""
        if self.nesting is not None and self.sends_pings:
            self.nesting.release()

    @property
    def has_begun(self) -> bool:
        """Whether it sends pings already, or is about to start the response early."""
        is_starting = self.hooks is not None and self.hooks.late is not None
        return self.sends_pings and (self.state is LIVE or is_starting)

    def exclude(self) -> None:
        """Send no pings, here and in the middlewares around this one: the path is excluded."""
        self.state = FORWARDING
        self.claim()

    @property
    def _outward(self) -> "Iterator[Responder]":
        """Itself and those around it."""
        nesting = self.nesting  # once: `close` may be called in another thread
        yield self
        if nesting is not None:
            yield from (outer.responder for outer in nesting.outward)

    @property
    def _inward(self) -> "Iterator[Responder]":
        """Itself and those within it."""
        nesting = self.nesting
        yield self
        if nesting is not None:
            yield from (inner.responder for inner in nesting.inward)

    @property
    def keeper(self) -> "Responder":
        """The responder that keeps the response alive; this one, if there is none (yet)."""
        nest = (*self._outward, *self._inward)
        return next((each for each in nest if each.state is LIVE and each.sends_pings), self)

    @property
    def is_app_watching(self) -> bool:
        """Whether the app has asked for its signal, here or further in."""
        return any(each.is_watched for each in self._inward)

    @property
    def scheduled_outers(self) -> int:
        """How many streams of the same response the scheduler polls for those around it."""
        lives = [each.live for each in self._outward if each is not self]
        return sum(live is not None and live.is_scheduled for live in lives)

    # Stopping

    @property
    def signal(self) -> AbortSignal:
        """The signal that the app sees: aborted when its stream stops, wherever that is."""
        if self._controller is None:
            self._controller = controller = AbortController()
            if self.reason is not None:
                controller.abort(self.reason)
        return self._controller.signal

    def abort(self) -> None:
        """Request that the pings stop. Thread-safe and signal-safe."""
        self.request_abort()  # first, since the loop's thread may be about to open the stream
        if (live := self.live) is not None:
            live.abort()

    def abort_stream(self) -> None:
        """Request that the pings stop, wherever they are sent. Thread-safe."""
        keeper = self.keeper
        if keeper.state is LIVE:
            keeper.abort()  # and with it those within
        else:
            for each in self._outward:
                each.abort()

    def stop(self, reason: StopReason, error: BaseException | None) -> None:
        """Stop the pings: a middleware around this one has stopped."""
        if self.live is not None:
            # A copy, since this may be called within a ping, which runs in that context.
            is_gone = reason is StopReason.DISCONNECTED
            stop = self.live.end if is_gone else self.live.stop
            self.live.context.copy().run(stop, reason, error)
        else:
            self.record_reason(reason)
            self.abort_signal()
            self.on_stopped(error)

    @override
    def on_stopped(self, error: BaseException | None) -> None:
        reason = self.reason
        if self.nesting is None or reason is None:
            return
        for inner in [*self.nesting.inners]:
            # What the app itself does, an open stream sees by itself.
            if inner.responder.live is None or reason not in _SEEN_BY_ALL:
                inner.responder.stop(reason, error)

    def disconnect_inners(self) -> None:
        """Make the middlewares within this one see a disconnect: it has ended the stream."""
        for inner in [] if self.nesting is None else [*self.nesting.inners]:
            responder = inner.responder
            context = Context() if responder.live is None else responder.live.context
            context.copy().run(responder.on_disconnect)
            responder.disconnect_inners()

    @override
    def on_disconnect(self) -> None:
        if self.hooks is not None:
            self.hooks.disconnected()
        if self.live is not None:
            self.live.disconnected()
        else:
            self.record_reason(StopReason.DISCONNECTED)
            self.abort_signal()
            self.on_stopped(None)

    def close(
        self,
        reason: StopReason = StopReason.COMPLETED,
        error: BaseException | None = None,
    ) -> None:
        """Leave nothing behind: the app's call is over.

        Args:
            reason: Why the pings stop, if they have not.
            error: What the app has raised.
        """
        if self.scope.get(SCOPE_KEY) is self:
            del self.scope[SCOPE_KEY]
            if self.nesting is not None:
                self._leave_scope(self.nesting)
        self.state = CLOSED
        if self.hooks is not None:
            self.hooks.closed()
        if self.live is not None:
            self.live.close(reason, error)
            self.live = None
        elif self._controller is not None or self.abort_requested:
            self.record_reason(reason)
            self.abort_signal()
        elif self.reason is None:
            self.reason = reason
        if self.nesting is not None:
            self._leave_nest(self.nesting)
