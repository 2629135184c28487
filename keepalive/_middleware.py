"""The ASGI middleware. It holds the configuration, and assembles each request's pipeline."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, cast, final

from typing_extensions import Unpack

from ._abort import AbortController, AbortSignal, WeakCallback
from ._activity import AppActivity
from ._config import Config
from ._connection import RevocableConnection
from ._early import EarlyStart
from ._ending import Terminator
from ._events import Observer, StopReason
from ._headers import NOTHING, EarlyBasis, early_basis
from ._inflight import InFlight
from ._policy import (
    MIDDLEWARE_ONLY,
    MiddlewareOptions,
    Policy,
    PolicyOptions,
    check_option_names,
)
from ._responder import SCOPE_KEY, Responder
from ._routing import Route, RouteFunction, RouteMap, Routes
from ._signals import SignalOwner, on_signals
from ._types import LIFESPAN, LOGGER, ASGIApp, Receive, Scope, Send, do_nothing, log_errors

AbortFunction: TypeAlias = Callable[[Scope], AbortSignal | None]
RegisterCallback: TypeAlias = Callable[[Callable[[], None]], object]


@final
class KeepaliveMiddleware:
    """Keeps the streaming responses of an ASGI app alive while they are idle.

    Pure ASGI: the app runs in the caller's own task and context, and its bytes and exceptions
    are passed on unchanged (except for a BOM after a ping, and errors that are caused by the
    middleware ending a stream). So are non-streaming responses, websockets and lifespan. Add
    it inside any compression middleware, not around it.

    Args:
        app: Any ASGI 3 app.
        interval: Idle time in seconds before a ping is sent. Default 15.
        routes: Different options for some paths. Either a mapping whose keys are path patterns
            (`/events`, `/chat/{thread}`, `/files/{path:path}`; the first match wins), or a
            callable that is passed the scope. Each value is a mapping of options, which are
            merged over those of the middleware (`None` switches an inherited option off); a
            number of seconds, which is short for `{"interval": number}`; `None`, which
            excludes the path; or a `Policy`, which inherits nothing. All other paths use the
            middleware's own options. Patterns are matched against `scope["path"]` without
            `root_path`. If a callable fails, the error is logged and the middleware's own
            options are used.
        abort: A signal that stops the pings of all streams, or a callable that is called with
            the scope when a stream starts, and returns that stream's own signal or `None`.
        on_shutdown: A function that registers a shutdown callback, such as the result of
            `on_signals(...)`, which requires `drain`. It is called once, before the first
            stream opens, with the method `shutdown`. That takes no arguments and may be called
            from any thread or signal handler, any number of times.
        observer: Called with an event object when a stream starts, for each ping, and when the
            stream ends.
        **policy: Every other field of `Policy`, by name.

    Raises:
        ValueError: A value is out of range; the message contains the option, the rule and the
            value. Or `on_shutdown` is `on_signals(...)`, and the middleware or a `Policy` in
            `routes` has no `drain`.
        TypeError: A value is of the wrong type, an option is unknown, or `on_shutdown` is a
            coroutine function or does not accept one positional argument.

    Example:
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, 5.0, routes={"/files/{path:path}": None})
        >>> KeepaliveMiddleware(app, intervall=5.0)
        Traceback (most recent call last):
        TypeError: KeepaliveMiddleware has no option 'intervall'; the nearest is 'interval'
    """

    __slots__ = (
        "__weakref__",
        "_config",
        "_on_shutdown",
        "_routes",
        "_signal_owner",
        "_single_route",
        "_stop_controller",
        "_warned",
        "app",
    )

    # Django refuses to start with a class in its setting MIDDLEWARE that can do neither.
    # It would call an instance with its own request, not with a scope.
    sync_capable = async_capable = False

    def __init__(
        self,
        app: ASGIApp,
        interval: float = 15.0,
        *,
        routes: RouteMap | RouteFunction | None = None,
        abort: AbortSignal | AbortFunction | None = None,
        on_shutdown: RegisterCallback | None = None,
        observer: Observer | None = None,
        **policy: Unpack[MiddlewareOptions],
    ) -> None:
        _check_callables(app, on_shutdown=on_shutdown, observer=observer)
        known = [*MIDDLEWARE_ONLY, *PolicyOptions.__annotations__]
        check_option_names("KeepaliveMiddleware", policy, known)
        self.app = app
        self._on_shutdown = {} if on_shutdown is None else {None: on_shutdown}
        self._signal_owner = on_shutdown if isinstance(on_shutdown, SignalOwner) else None
        self._routes = Routes(
            Policy(interval=interval, **policy),
            routes,
            drain_required=self._signal_owner is not None,
        )
        self._single_route = self._routes.single
        self._warned: set[object] = set()
        self._stop_controller = AbortController()
        self._config = self._shared_config(self._resolve_abort(abort), observer)

    def _shared_config(self, signal_for: AbortFunction, observer: Observer | None) -> Config:
        return Config(
            stop_signal=self._stop_controller.signal,
            signal_for=signal_for,
            in_flight=InFlight(),
            observer=observer,
            before_stream=self._before_stream,
            warn_compressed=self._warn_compressed,
            warn_lost=self._warn_lost,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection. The app's exceptions propagate unchanged.

        Args:
            scope: The connection's. While the app runs, it contains the stream that
                `get_stream` returns.
            receive: The server's.
            send: The server's.
        """
        if scope["type"] != "http":
            await self._pass_through(scope, receive, send)
            return
        # There is a frame of this function for every idle stream, so it is kept small. The
        # usual pipeline is built here, since a call more would be felt by every response.
        route, app = self._single_route or self._routes.match(scope), self.app
        if (
            route is None
            or not route.is_plain
            or SCOPE_KEY in scope
            or scope.get("method") == "HEAD"
        ):
            app, responder, receive, send = self._pipeline(route, scope, receive, send)
        else:
            responder = Responder(self._config, route, scope, receive, send)
            receive, send = responder, responder.send
        try:
            await app(scope, receive, send)
        except BaseException:
            responder.close(StopReason.APP_FAILED, sys.exception())
            raise
        responder.close()

    async def _pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        lifespan = scope["type"] == LIFESPAN
        if lifespan and self._routes.may_drain:
            receive = self._config.in_flight.delaying_shutdown(receive)
        try:
            await self.app(scope, receive, send)
        finally:
            if lifespan and self._signal_owner is not None:
                self._signal_owner.restore()

    # The pipeline of a request:
    #
    #   app <-> [EarlyStart]? <-> Responder -> LiveStream <-> [RevocableConnection]? <-> server
    #
    # The responder adds the `LiveStream` when the response turns out to be a stream. The
    # connection, and the `Terminator` that revokes it, exist only where a stream may be ended.

    def _pipeline(
        self, route: Route | None, scope: Scope, receive: Receive, send: Send
    ) -> tuple[ASGIApp, Responder, Receive, Send]:
        """Return what to call for a request, the responder, and what to call it with.

        For unusual requests only: `__call__` serves the others itself.
        """
        if route is None:
            responder = Responder(self._config, self._routes.default, scope, receive, send)
            responder.exclude()
            return self.app, responder, receive, send
        if scope.get("method") == "HEAD":  # has no body, so only its scope is served
            return (
                self.app,
                Responder(self._config, route, scope, receive, send),
                receive,
                send,
            )
        if not route.is_plain:
            basis = early_basis(scope, route.policy) if route.early_plans else NOTHING
            if basis is not NOTHING or route.has_limits:
                return self._limited_pipeline(route, basis, scope, receive, send)
        responder = Responder(self._config, route, scope, receive, send)
        if responder.nesting is not None:  # the middlewares around it may need to know
            activity = AppActivity()
            responder.nesting.observe(activity)
            observed = partial(activity.receive, responder.receive)
            return self.app, responder, observed, responder.send
        return self.app, responder, responder.receive, responder.send

    def _limited_pipeline(
        self, route: Route, basis: EarlyBasis, scope: Scope, receive: Receive, send: Send
    ) -> tuple[ASGIApp, Responder, Receive, Send]:
        """Return the same for a request whose stream may be started early, or ended."""
        connection = RevocableConnection(receive, send, route.policy.send_timeout)
        responder = Responder(self._config, route, scope, connection.receive, connection.send)
        terminator = Terminator(responder, route.policy, connection)
        if basis is NOTHING:
            serve = partial(terminator.serve, self.app)
            return serve, responder, responder.receive, responder.send
        early = EarlyStart(responder, terminator, basis)
        return partial(early.serve, self.app), responder, early.receive, early.send

    def shutdown(self) -> None:
        """Stop the pings of all streams, and of those that open later.

        Thread-safe and signal-safe; may be called any number of times; never blocks. The
        responses continue until the app ends them, unless their policy has a `drain`.
        """
        self._stop_controller.abort(StopReason.SHUTDOWN)

    def _before_stream(self) -> None:
        # `pop` is atomic: only one of two threads that open a first stream registers.
        on_shutdown = self._on_shutdown.pop(None, None)
        if on_shutdown is not None:
            with log_errors("on_shutdown raised"):
                on_shutdown(self.shutdown)
        elif self._signal_owner is not None:
            self._signal_owner.watch()

    def _on_abort(self) -> None:
        self._stop_controller.abort(StopReason.ABORTED)

    def _resolve_abort(self, abort: object) -> AbortFunction:
        """Return a function from a scope to the signal of that stream alone.

        A signal that is shared by all streams is connected to the middleware's own instead.
        """
        if abort is None:
            return _no_signal
        if isinstance(abort, AbortSignal):
            abort.add_callback(WeakCallback(abort, self._on_abort))
            return _no_signal
        if not callable(abort):
            hint = "; pass its .signal" if isinstance(abort, AbortController) else ""
            raise TypeError(
                f"abort must be an AbortSignal, a callable or None, got {abort!r}{hint}"
            )
        return _checked(abort)

    def _warn_compressed(self, route: str) -> None:
        if self._first_time(route):
            LOGGER.warning(
                "a compressed stream can't be kept alive: add KeepaliveMiddleware inside "
                "the compression middleware",
                extra={"route": route},
            )

    def _warn_lost(self, route: str, names: tuple[str, ...]) -> None:
        new = [name for name in names if self._first_time((route, name))]
        if new:
            LOGGER.warning(
                "response headers set after start_after were dropped: %s",
                ", ".join(new),
                extra={"route": route, "headers": new},
            )

    def _first_time(self, subject: object) -> bool:
        first = subject not in self._warned
        self._warned.add(subject)
        return first


def _no_signal(_: Scope) -> None:
    return None


def _checked(abort: Callable[[Scope], object]) -> AbortFunction:
    def signal_for(scope: Scope) -> AbortSignal | None:
        with log_errors("the abort callable failed", path=scope.get("path")):
            signal = abort(scope)
            if signal is None or isinstance(signal, AbortSignal):
                return signal
            raise TypeError(f"abort must return an AbortSignal or None, got {signal!r}")
        return None

    return signal_for


def _check_on_shutdown(on_shutdown: RegisterCallback) -> None:
    """Reject a shutdown function that was passed instead of one that registers a callback."""
    rule = (
        "on_shutdown must be a function that registers a callback, and accept that callback "
        "as its only argument; to stop the streams yourself, call the middleware's "
        "shutdown(); got"
    )
    functions = (on_shutdown, type(on_shutdown).__call__)
    if any(map(inspect.iscoroutinefunction, functions)):
        raise TypeError(f"{rule} a coroutine function, {on_shutdown!r}")
    try:
        signature = inspect.signature(on_shutdown, follow_wrapped=False)
    except (TypeError, ValueError):  # a C function without a signature
        return
    try:
        signature.bind(do_nothing)
    except TypeError as error:
        raise TypeError(f"{rule} {on_shutdown!r} ({error})") from None


def _check_callables(app: object, **hooks: object) -> None:
    for name, value in hooks.items():
        if not (value is None or callable(value)):
            raise TypeError(f"{name} must be callable or None, got {value!r}")
        if value is on_signals:
            raise TypeError(f"{name} must be what on_signals(...) returns, got on_signals")
    if not callable(app):
        raise TypeError(f"app must be an ASGI app, a callable, got {app!r}")
    if (on_shutdown := hooks["on_shutdown"]) is not None:
        _check_on_shutdown(cast("RegisterCallback", on_shutdown))
