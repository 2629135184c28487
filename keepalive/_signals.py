"""Shutting down at a process signal, such as SIGTERM.

Existing handlers, usually the server's, are chained: they are called after the callbacks. If a
server replaces the handlers later, the new ones are chained when the next stream opens.

Source: the standard library's "signal", notes on threads and on `SIG_DFL` and `SIG_IGN`.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, final

from ._types import LOGGER, log_errors

_UNCATCHABLE: Final = ("SIGKILL", "SIGSTOP")


@final
class SignalOwner:
    """What `on_signals` returns: registers a callback for a set of signals.

    Example:
        >>> import signal
        >>> found = signal.signal(signal.SIGTERM, lambda *_: print("the server's"))
        >>> owner = SignalOwner((signal.SIGTERM,))
        >>> owner(lambda: print("shutting down"))
        >>> signal.raise_signal(signal.SIGTERM)
        shutting down
        the server's
        >>> owner.restore()
        >>> _ = signal.signal(signal.SIGTERM, found)
    """

    __slots__ = ("_callbacks", "_signals", "_warned")

    def __init__(self, signals: tuple[int, ...]) -> None:
        self._signals = signals
        self._callbacks: list[Callable[[], None]] = []
        self._warned = False

    def __call__(self, callback: Callable[[], None]) -> None:
        """Call a function whenever one of the signals is received.

        Works in the main thread only; in others, a warning is logged. Called by the
        middleware.
        """
        self._callbacks.append(callback)
        self.watch()

    def watch(self) -> None:
        """Re-install the handlers if a server has replaced them.

        Called by the middleware before each stream opens.
        """
        for number in self._signals:
            installed = signal.getsignal(number)
            if not self._is_chained(installed):
                self._chain(number, installed)

    def restore(self) -> None:
        """Restore the handlers that were replaced. In the main thread only.

        A handler that was installed in the meantime is kept. Called by the middleware when the
        server's lifespan is over. If a stream opens later, the handlers are installed again.
        """
        for number in self._signals:
            installed = signal.getsignal(number)
            rest = self._without(installed)
            if rest is not installed:
                self._install(number, rest)

    def _without(self, handler: Any) -> Any:
        """Return a chain of handlers without this owner's."""
        if not isinstance(handler, _ChainedHandler):
            return handler
        handler.previous = self._without(handler.previous)
        return handler.previous if handler.callbacks is self._callbacks else handler

    def _is_chained(self, handler: Any) -> bool:
        while isinstance(handler, _ChainedHandler):
            if handler.callbacks is self._callbacks:
                return True
            handler = handler.previous
        return False

    def _chain(self, number: int, previous: Any) -> None:
        if previous is None:
            self._warn("its handler was not installed from Python", number)
        elif previous is not signal.SIG_IGN:  # SIG_IGN was set on purpose; keep it
            self._install(number, _ChainedHandler(self._callbacks, previous))

    def _install(self, number: int, handler: Any) -> None:
        try:
            signal.signal(number, handler)
        except ValueError:
            self._warn("signal handlers can be installed in the main thread only", number)

    def _warn(self, why: str, number: int) -> None:
        if not self._warned:
            self._warned = True
            LOGGER.warning(
                "on_signals can't handle %s: %s; call the middleware's shutdown() instead",
                _name(number),
                why,
                extra={"signal": _name(number)},
            )


class _ChainedHandler:
    """A handler that calls an owner's callbacks, and then the previous handler."""

    __slots__ = ("callbacks", "previous")

    def __init__(self, callbacks: list[Callable[[], None]], previous: Any) -> None:
        self.callbacks = callbacks
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for callback in [*self.callbacks]:
            with log_errors("an on_shutdown callback raised"):
                callback()
        if self.previous is signal.SIG_DFL:
            installed = signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, installed)  # its default was not to end the process
        else:
            self.previous(number, frame)


def on_signals(*signals: int) -> Callable[[Callable[[], None]], None]:
    """Return a value for `on_shutdown` that shuts the streams down on these signals.

    When the first stream opens, a handler is installed for each signal. It shuts down the
    streams, and then calls the handler that was installed before, usually the server's. An
    ignored signal stays ignored. When the server's lifespan is over, the handlers are removed.

    Create one for each middleware. It requires `drain`.

    The app must run in the main thread of a process in which the server handles signals: see
    the page "Servers" for those that don't.

    Args:
        *signals: For example `signal.SIGTERM, signal.SIGINT`.

    Raises:
        ValueError: No signal was given, or one does not exist or can't be caught.
        TypeError: A signal is not an `int`.

    Example:
        >>> import signal
        >>> stop = on_signals(signal.SIGTERM, signal.SIGINT)
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, on_shutdown=stop, drain=10.0)
        >>> on_signals()
        Traceback (most recent call last):
        ValueError: on_signals needs at least one signal, got none
    """
    if not signals:
        raise ValueError("on_signals needs at least one signal, got none")
    return SignalOwner(tuple(dict.fromkeys(map(_catchable, signals))))


def _catchable(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"on_signals: a signal must be a number, got {number!r}")
    if number not in signal.valid_signals():
        raise ValueError(f"on_signals: a signal must exist, got {number!r}")
    if _name(number) in _UNCATCHABLE:
        raise ValueError(
            f"on_signals: a signal must be one that can be caught, got {number!r}"
        )
    return number


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
