"""The middleware: ASGI's entry, and the owner of what its streams have in common.

Law: holds configuration, no stream. Knows no bytes and no clock.
"""

import difflib
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, final

from typing_extensions import Unpack

from ._abort import AbortController, AbortSignal
from ._asgi import LIFESPAN, ASGIApp, Receive, Scope, Send
from ._bounds import BoundedStream
from ._calls import Calls
from ._early import EarlyStream
from ._observe import LOGGER, Observer, StopReason
from ._policy import Policy, PolicyOptions
from ._request import early_type
from ._routes import Choice, RouteFunction, RouteMap, Routes
from ._signals import SignalOwner, on_signals
from ._stream import Stream
from ._surroundings import Surroundings

AbortFunction: TypeAlias = Callable[[Scope], AbortSignal | None]
Subscribe: TypeAlias = Callable[[Callable[[], None]], object]


@final
class KeepaliveMiddleware:
    """Keeps the streaming responses of an ASGI app alive while the app is silent.

    Pure ASGI: the app runs in the caller's own task and context, its bytes go on unchanged,
    its exceptions come out bare. Responses that are no streams, websockets and lifespan pass
    through untouched. Belongs inside a compressing middleware, not around it.

    Args:
        app: Any ASGI 3 app.
        interval: Seconds that a stream may stay silent; default 15.
        routes: Another policy for some paths. A mapping from path patterns (`/events`,
            `/chat/{thread}`, `/files/{path:path}`; the first that matches wins) or a callable
            that is given the scope; to a `Policy`, to an interval in seconds (the same policy
            otherwise), or to `None`: hands off. Unmatched paths get the middleware's own
            policy. Patterns match `scope["path"]` less `root_path`. A callable that fails is
            logged, and the middleware's own policy is used.
        abort: A signal that stops the pings of all streams; or a callable that is given the
            scope of each stream as it starts, and returns that stream's own signal or `None`.
        on_shutdown: The owner's "call me back" function. It is called once, before the first
            stream opens, with a callback that takes nothing and may be called from any
            thread or signal handler, any number of times: `shutdown`.
        observer: Is given a fact when a stream starts, for each ping, and when it ends.
        **policy: Every other field of `Policy`, by name.

    Raises:
        ValueError: A value is out of range; the message names field, rule and value.
        TypeError: A value is of the wrong type, or an option is unknown.

    Example:
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, 5.0, routes={"/files/{path:path}": None})
        >>> KeepaliveMiddleware(app, intervall=5.0)
        Traceback (most recent call last):
        TypeError: KeepaliveMiddleware has no option 'intervall'; the nearest is 'interval'
    """

    __slots__ = (
        "__weakref__",
        "_around",
        "_calls",
        "_only",
        "_routes",
        "_signals",
        "_stops",
        "_subscribe",
        "_warned",
        "app",
    )

    def __init__(
        self,
        app: ASGIApp,
        interval: float = 15.0,
        *,
        routes: RouteMap | RouteFunction | None = None,
        abort: AbortSignal | AbortFunction | None = None,
        on_shutdown: Subscribe | None = None,
        observer: Observer | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> None:
        hooks: dict[str, object] = {"on_shutdown": on_shutdown, "observer": observer}
        for name, value in hooks.items():
            if not (value is None or callable(value)):
                raise TypeError(f"{name} must be callable or None, got {value!r}")
            if value is on_signals:
                raise TypeError(f"{name} must be what on_signals(...) returns, got on_signals")
        if not callable(app):
            raise TypeError(f"app must be an ASGI app, a callable, got {app!r}")
        _check_options(policy)
        self.app = app
        self._routes = Routes(Policy(interval=interval, **policy), routes)
        self._only = self._routes.only
        self._subscribe = {} if on_shutdown is None else {None: on_shutdown}
        self._signals = on_shutdown if isinstance(on_shutdown, SignalOwner) else None
        self._warned: set[object] = set()
        self._stops = AbortController()
        self._calls = Calls()
        self._around = self._surroundings(self._follow(abort), observer)

    def _surroundings(
        self, own_signal: AbortFunction, observer: Observer | None
    ) -> Surroundings:
        return Surroundings(
            stops=self._stops.signal,
            own_signal=own_signal,
            calls=self._calls,
            observer=observer,
            before_stream=self._before_stream,
            warn_compressed=self._warn_compressed,
            warn_lost=self._warn_lost,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection. What the app raises comes out as it is.

        Args:
            scope: The connection's; while the app runs it holds its stream, for `stream`.
            receive: The server's.
            send: The server's.
        """
        if scope["type"] != "http":
            await self._pass_through(scope, receive, send)
            return
        # A frame as small as can be: there is one for every idle stream.
        app, stream, receive, send = self._stream(scope, receive, send)
        try:
            await app(scope, receive, send)
        except BaseException:
            stream.close(StopReason.APP_FAILED, sys.exception())
            raise
        stream.close()

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifespan = scope["type"] == LIFESPAN
        if lifespan and self._routes.may_drain:
            receive = self._calls.held_back(receive, self.shutdown)
        try:
            await self.app(scope, receive, send)
        finally:
            if lifespan and self._signals is not None:
                self._signals.restore()

    def _stream(
        self, scope: Scope, receive: Receive, send: Send
    ) -> tuple[ASGIApp, Stream, Receive, Send]:
        """Return what is to be called for a request, and with what; and its stream."""
        choice = self._only or self._routes.choose(scope)
        if not (choice is None or choice.plain or scope.get("method") == "HEAD"):
            found = self._special_stream(choice, scope, receive, send)
            if found is not None:
                return partial(found.serve, self.app), found, found.receive, found.send
        stream = Stream(self._around, choice, scope, receive, send)
        if choice is None:
            stream.step_aside()
        elif scope.get("method") != "HEAD":
            return self.app, stream, stream.receive, stream.send
        return self.app, stream, receive, send

    def _special_stream(
        self, choice: Choice, scope: Scope, receive: Receive, send: Send
    ) -> BoundedStream | None:
        """Return the stream of a request whose policy may start it or end it."""
        media_type = early_type(scope, choice.policy) if choice.early else None
        if media_type is not None:
            given = (self._around, choice, scope, receive, send)
            return EarlyStream(*given, media_type=media_type)
        if choice.bounded:
            return BoundedStream(self._around, choice, scope, receive, send)
        return None

    def shutdown(self) -> None:
        """Stop the pings of all streams, now and from now on: the owner is shutting down.

        From any thread or signal handler, any number of times. Never blocks. The responses
        themselves stay the app's, but where a policy has a `drain`.
        """
        self._stops.abort(StopReason.SHUTDOWN)

    def _before_stream(self) -> None:
        # `pop` is atomic: of two threads with a first stream each, one subscribes.
        subscribe = self._subscribe.pop(None, None)
        if subscribe is not None:
            try:
                subscribe(self.shutdown)
            except Exception:
                LOGGER.exception("on_shutdown raised")
        elif self._signals is not None:
            self._signals.watch()

    def _follow(self, abort: object) -> AbortFunction:
        """Return what gives each stream its own signal; follow a shared one here."""
        if abort is None:
            return _no_signal
        if isinstance(abort, AbortSignal):
            stops = self._stops
            abort.add_callback(lambda: stops.abort(StopReason.ABORTED))
            return _no_signal
        if not callable(abort):
            hint = "; give its .signal" if isinstance(abort, AbortController) else ""
            raise TypeError(
                f"abort must be an AbortSignal, a callable or None, got {abort!r}{hint}"
            )
        return _checked(abort)

    def _warn_compressed(self, route: str) -> None:
        if self._is_news(route):
            LOGGER.warning(
                "a compressed stream can't be kept alive: put KeepaliveMiddleware inside "
                "the compressing middleware",
                extra={"route": route},
            )

    def _warn_lost(self, route: str, names: tuple[str, ...]) -> None:
        news = [name for name in names if self._is_news((route, name))]
        if news:
            LOGGER.warning(
                "headers are lost that came after start_after: %s",
                ", ".join(news),
                extra={"route": route, "headers": news},
            )

    def _is_news(self, what: object) -> bool:
        news = what not in self._warned
        self._warned.add(what)
        return news


def _no_signal(_: Scope) -> None:
    return None


def _checked(abort: Callable[[Scope], object]) -> AbortFunction:
    def own_signal(scope: Scope) -> AbortSignal | None:
        try:
            signal = abort(scope)
            if signal is None or isinstance(signal, AbortSignal):
                return signal
            raise TypeError(f"abort must return an AbortSignal or None, got {signal!r}")
        except Exception:
            extra = {"path": scope["path"]}
            LOGGER.exception("the abort callable failed", extra=extra)
            return None

    return own_signal


def _check_options(options: PolicyOptions) -> None:
    own = ("interval", "routes", "abort", "on_shutdown", "observer")
    known = [*own, *PolicyOptions.__annotations__]
    for name in options:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise TypeError(
                f"KeepaliveMiddleware has no option {name!r}; the nearest is {nearest!r}"
            )
