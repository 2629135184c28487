"""Process signals: an owner that shuts down when the process is told to end.

Law: chains to the handlers that it finds, and takes nothing away from them. Knows no stream
and no event loop.

Source: the standard library's "signal", notes on threads and on `SIG_DFL` and `SIG_IGN`.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, final

from ._observe import LOGGER

_UNCATCHABLE: Final = ("SIGKILL", "SIGSTOP")


@final
class SignalOwner:
    """An owner for `on_shutdown` that shuts down at a signal; get one from `on_signals`.

    Example:
        >>> import signal
        >>> found = signal.signal(signal.SIGTERM, lambda *_: print("the server's"))
        >>> owner = on_signals(signal.SIGTERM)
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
        """Have a callback called at each of the signals, from now on.

        In the main thread only; elsewhere there is a warning, and no more. The middleware
        calls this itself.
        """
        self._callbacks.append(callback)
        self.watch()

    def watch(self) -> None:
        """See that the handlers are in place: another server may have put its own there.

        The middleware calls this itself, before each stream opens.
        """
        for number in self._signals:
            found = signal.getsignal(number)
            if not self._is_chained(found):
                self._chain(number, found)

    def restore(self) -> None:
        """Put the handlers back that were found. From the main thread only.

        Where somebody else has put a handler in the meantime, that one stays. The middleware
        calls this itself when the server's lifespan is over. A stream that opens later chains
        to the handlers that it finds then.
        """
        for number in self._signals:
            found = signal.getsignal(number)
            rest = self._without(found)
            if rest is not found:
                self._put(number, rest)

    def _without(self, handler: Any) -> Any:
        """Return a line of handlers without this owner's."""
        if not isinstance(handler, _Link):
            return handler
        handler.found = self._without(handler.found)
        return handler.found if handler.callbacks is self._callbacks else handler

    def _is_chained(self, handler: Any) -> bool:
        while isinstance(handler, _Link):
            if handler.callbacks is self._callbacks:
                return True
            handler = handler.found
        return False

    def _chain(self, number: int, found: Any) -> None:
        if found is None:
            self._warn("it has a handler that is not Python's", number)
        elif found is not signal.SIG_IGN:  # whoever ignores a signal means it
            self._put(number, _Link(self._callbacks, found))

    def _put(self, number: int, handler: Any) -> None:
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


class _Link:
    """A handler of an owner's, in front of the one that it found."""

    __slots__ = ("callbacks", "found")

    def __init__(self, callbacks: list[Callable[[], None]], found: Any) -> None:
        self.callbacks = callbacks
        self.found = found

    def __call__(self, number: int, frame: FrameType | None) -> None:
        for callback in [*self.callbacks]:
            try:
                callback()
            except Exception:
                LOGGER.exception("an on_shutdown callback raised")
        if self.found is signal.SIG_DFL:
            installed = signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            signal.signal(number, installed)  # its default was not to end the process
        else:
            self.found(number, frame)


def on_signals(*signals: int) -> SignalOwner:
    """Return an owner for `on_shutdown` that shuts down at one of these signals.

    When the first stream opens, it puts itself in front of each signal's handler, which is
    the server's by then. At the signal the streams hear of the shutdown first, then that
    handler does what it would have done, at a second signal too. A signal that is ignored
    stays ignored. When the server is over, so are these handlers.

    Make one for each middleware.

    Works where the app runs in the process's main thread, and where the server has signal
    handlers in that process: see "Servers" for those that don't.

    Args:
        *signals: For example `signal.SIGTERM, signal.SIGINT`.

    Raises:
        ValueError: No signal was given, or one that doesn't exist or can't be caught.
        TypeError: A signal is no number.

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
