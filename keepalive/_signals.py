"""Shutting down at a process signal, such as SIGTERM.

The handlers that are installed already, which are the server's, are chained to and go on doing
what they did. Servers that replace them later are chained to when the next stream opens.

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
    """What `on_signals` returns: registers a callback that is called at each of the signals.

    Example:
        >>> import signal
        >>> found = signal.signal(signal.SIGTERM, lambda *_: print("the server's"))
        >>> owner = SignalOwner((signal.SIGTERM,))
        >>> owner(lambda: print("ours"))
        >>> signal.raise_signal(signal.SIGTERM)
        ours
        the server's
        >>> owner.restore()
        >>> ours = signal.signal(signal.SIGTERM, found)
    """

    __slots__ = ("_callbacks", "_signals", "_warned")

    def __init__(self, signals: tuple[int, ...]) -> None:
        self._signals = signals
        self._callbacks: list[Callable[[], None]] = []
        self._warned = False

    def __call__(self, callback: Callable[[], None]) -> None:
        """Call a function at each of the signals, from now on.

        Works in the main thread only; in another, a warning is logged. The middleware calls
        this itself.
        """
        self._callbacks.append(callback)
        self.watch()

    def watch(self) -> None:
        """Make sure that the handlers are installed; a server may have replaced them.

        The middleware calls this itself, before each stream opens.
        """
        for number in self._signals:
            installed = signal.getsignal(number)
            if not self._is_chained(installed):
                self._chain(number, installed)

    def restore(self) -> None:
        """Restore the handlers that were replaced. In the main thread only.

        A handler that was installed in the meantime stays. The middleware calls this itself
        when the server's lifespan is over. A stream that opens later chains to the handlers
        that are installed then.
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
            self._warn("it has a handler that is not Python's", number)
        elif previous is not signal.SIG_IGN:  # SIG_IGN was set on purpose; keep it
            self._install(number, _ChainedHandler(self._callbacks, previous))

    def _install(self, number: int, handler: Any) -> None:
        try:
            signal.signal(number, handler)
        except ValueError:
            self._warn("handlers may be set in the main thread only", number)

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
    """Return an argument for `on_shutdown` that shuts down at one of these signals.

    When the first stream opens, it installs a handler for each signal, which calls the one
    that was installed before; by then that is the server's. At a signal the streams are shut
    down first, then the server's handler is called, at a second signal, too. A signal that is
    ignored stays ignored. When the server's lifespan is over, the handlers are removed.

    Create one for each middleware.

    It works if the app runs in the process's main thread, and if the server handles signals
    in that process: see "Servers" for those that don't.

    Args:
        *signals: For example `signal.SIGTERM, signal.SIGINT`.

    Raises:
        ValueError: No signal was given, or one that doesn't exist or can't be caught.
        TypeError: A signal is not a number.

    Example:
        >>> import signal
        >>> owner = on_signals(signal.SIGTERM, signal.SIGINT)
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, on_shutdown=owner, drain=10.0)
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
