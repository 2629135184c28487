"""Decides whether a response is kept alive; until then it only passes messages on."""

from collections.abc import Awaitable, Iterator
from functools import partial
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from ._abort import AbortController, AbortSignal
from ._config import Config
from ._events import StopReason
from ._headers import classify, may_be_stream, with_anti_buffering, with_reusable_headers
from ._live import NOTHING, LiveStream
from ._request import Request
from ._routing import Plan, Route
from ._types import BODY, START, Message, Receive, Scope, Send

SCOPE_KEY: Final = "asgi-keepalive"
"""The key under which a request's scope holds its responder while the app runs."""

ResponseState: TypeAlias = Literal["undecided", "forwarding", "live", "closed"]

UNDECIDED: Final = "undecided"
"""The response has not started, apart from 1xx responses."""
FORWARDING: Final = "forwarding"
"""The response is not kept alive: every message is passed on as it is."""
LIVE: Final = "live"
"""The response is kept alive, by `Responder.live`."""
CLOSED: Final = "closed"
"""The app's call is over."""


class Responder(Request):
    """Responds to one request. It inherits the request's state, so that both are one object.

    Args:
        config: What all requests of the middleware share.
        route: Its route. For an excluded path, any: `defer_to_inner` is called then.
        scope: The connection's.
        receive: The server's, or a `RevocableConnection`'s.
        send: The same.
    """

    __slots__ = ("_outer", "live", "route", "state")

    state: ResponseState
    _outer: "Responder | None"
    """The responder of a middleware around this one."""
    live: LiveStream | None
    """The open stream, in the state `LIVE`."""

    def __init__(
        self, config: Config, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        Request.__init__(self, config, scope, receive, send)  # `super()` takes thrice the time
        self.route = route
        self.state = UNDECIDED
        self.live = None
        outer: Responder | None = scope.get(SCOPE_KEY)
        if (
            outer is not None
            and outer.scope is scope
            and outer.config.in_flight is config.in_flight
        ):
            # Another call of this middleware with the same scope, at the same time.
            outer = outer._outer
        self._outer = outer
        scope[SCOPE_KEY] = self

    def __deepcopy__(self, _: object) -> "Responder":
        # hypercorn's ProxyFixMiddleware copies scopes; a server's objects can't be copied.
        return self

    def send(self, message: Message) -> Awaitable[None]:
        """Send a message of the app: the app's `send`."""
        if self.live is not None:
            return self.live.send(message)
        if self.state is UNDECIDED:
            kind = message.get("type")
            if kind == START:
                if may_be_stream(message, self.route.other_types):
                    return self._start(with_reusable_headers(message), self.route)
                self.state = FORWARDING
            elif kind == BODY:  # its start is still being sent, or missing
                self.state = FORWARDING
        return self.server_send(message)

    def _start(self, message: Message, route: Route) -> Awaitable[None]:
        kind, media_type = classify(message, route.plans)
        if kind == "stream" and self.claim():
            return self.open(message, route.plans[media_type])
        if kind == "compressed":
            self.config.warn_compressed(route.pattern)
        if kind != "informational":
            self.state = FORWARDING
        return self.server_send(message)

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

    # Nested middlewares

    def claim(self) -> bool:
        """Make the middlewares around this one leave the response to it, if they still can."""
        return self._outer is None or self._outer.defer_to_inner()

    def defer_to_inner(self) -> bool:
        """Leave the response to an inner middleware. Returns False if it has started."""
        started_early = self.hooks is not None and self.hooks.late is not None
        if self.state is LIVE or started_early:
            return False
        self.state = FORWARDING
        return self.claim()

    @property
    def nest(self) -> Iterator["Responder"]:
        """Itself and those around it, up to the one that keeps the response alive."""
        responder: Responder | None = self
        while responder is not None:
            yield responder
            responder = None if responder.state is LIVE else responder._outer

    @property
    def keeper(self) -> "Responder":
        """The responder that keeps the response alive; this one, if there is none (yet)."""
        return next((each for each in self.nest if each.state is LIVE), self)

    # Stopping

    @property
    def signal(self) -> AbortSignal:
        """The signal that the app sees: aborted when its stream stops, wherever that is."""
        if self._controller is None:
            self._controller = controller = AbortController()
            if self.reason is not None:
                controller.abort(self.reason)
            elif self._outer is not None:
                self._outer.signal.add_callback(partial(_follow, self._outer, controller))
        return self._controller.signal

    def abort(self) -> None:
        """Request that the pings stop. Thread-safe and signal-safe."""
        self.request_abort()  # first, since the loop's thread may be about to open the stream
        if (live := self.live) is not None:
            live.abort()

    @override
    def on_disconnect(self) -> None:
        if self.hooks is not None:
            self.hooks.disconnected()
        if self.live is not None:
            self.live.disconnected()
        else:
            self.record_reason(StopReason.DISCONNECTED)
            self.abort_signal()

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
            if self._outer is None:
                del self.scope[SCOPE_KEY]
            else:
                self.scope[SCOPE_KEY] = self._outer
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


def _follow(outer: Responder, controller: AbortController) -> None:
    """Abort an inner responder's signal, if an outer one keeps the response alive."""
    if outer.keeper.state is LIVE:
        controller.abort(outer.signal.reason)
