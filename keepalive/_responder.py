"""Decides whether a response is kept alive; until then it only passes messages on."""

from collections.abc import Awaitable
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from ._config import Config
from ._events import StopReason
from ._headers import classify, may_be_stream, with_anti_buffering, with_reusable_headers
from ._live import LiveStream
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
    live: LiveStream | None
    """The open stream, in the state `LIVE`."""

    def __init__(
        self, config: Config, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> None:
        Request.__init__(self, config, scope, receive, send)  # `super()` takes thrice the time
        self.route = route
        self.state = UNDECIDED
        self.live = None
        # Of a middleware around this one.
        self._outer: Responder | None = scope.get(SCOPE_KEY)
        scope[SCOPE_KEY] = self

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
        self.config.before_stream()
        headers = plan.policy.headers
        await self.server_send(with_anti_buffering(message) if headers else message)
        # A body that the app has sent meanwhile, from another task, has got no tracker.
        if self.state is UNDECIDED:
            self.live = LiveStream(self, plan)
            self.state = LIVE
            await self.live.open()

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

    # Stopping

    def abort(self) -> None:
        """Request that the pings stop. Thread-safe and signal-safe."""
        if (live := self.live) is not None:
            live.abort()
        else:
            self.request_abort()

    @override
    def on_disconnect(self) -> None:
        if self.hooks is not None:
            self.hooks.disconnected()
        if self.live is not None:
            self.live.disconnected()
        else:
            self.record_reason(StopReason.DISCONNECTED)

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
        if self._outer is None:
            self.scope.pop(SCOPE_KEY, None)
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
        elif self.reason is None:
            self.reason = reason
