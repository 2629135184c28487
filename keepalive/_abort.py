"""Abort controllers and signals, under the web platform's names.

Law: one shot, made anywhere, fired from any thread or signal handler. Knows nothing of
streams. Holds no lock: a signal handler may interrupt whoever held it.

Source: WHATWG DOM, section 3.2, "Interface AbortSignal".
"""

import logging
from collections.abc import Callable
from typing import TypeAlias, final

import anyio
from anyio.lowlevel import checkpoint

from ._backend import current_loop

Callback: TypeAlias = Callable[[], object]


@final
class AbortSignal:
    """Tells that something is to stop. Get one from `AbortController.signal`.

    One signal may be shared by any number of streams, threads and event loops.

    Example:
        >>> controller = AbortController()
        >>> controller.signal.add_callback(lambda: print("stopping"))
        >>> controller.abort()
        stopping
        >>> controller.signal.aborted
        True
    """

    __slots__ = ("__weakref__", "_callbacks", "_outcome")

    def __init__(self) -> None:
        # Single operations on a dict are atomic; two dicts stand in for a lock.
        self._outcome: dict[None, tuple[object]] = {}
        self._callbacks: dict[Callback, Callback] = {}

    @property
    def aborted(self) -> bool:
        """Whether the controller has aborted."""
        return bool(self._outcome)

    @property
    def reason(self) -> object:
        """What was given to `AbortController.abort`; `None` until then."""
        return self._outcome.get(None, (None,))[0]

    def add_callback(self, callback: Callback) -> None:
        """Have a function called, with no argument, once the signal is aborted.

        On a signal that is aborted already it is called at once. Added twice, it is called
        once. It runs in the thread, or the signal handler, that aborts: it must be quick and
        must not block. What it raises is logged.

        Raises:
            TypeError: The callback is not callable, or not hashable.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        self._callbacks[callback] = callback
        if self.aborted:
            self._call(callback)

    def remove_callback(self, callback: Callback) -> None:
        """Take a callback back. One that was never added, or was called, is no error."""
        self._callbacks.pop(callback, None)

    async def wait(self) -> object:
        """Wait until the signal is aborted, and return the reason.

        Any number of tasks may wait, on asyncio and on trio. An abort wakes them all at
        once, from whichever thread it comes.

        Example:
            >>> import anyio
            >>> controller = AbortController()
            >>> controller.abort("enough")
            >>> anyio.run(controller.signal.wait)
            'enough'
        """
        if self.aborted:
            await checkpoint()
            return self.reason
        event, loop = anyio.Event(), current_loop()

        def wake() -> None:
            loop.wake(event.set)

        self.add_callback(wake)
        try:
            await event.wait()
        finally:
            self.remove_callback(wake)
        return self.reason

    def _abort(self, reason: object) -> None:
        self._outcome.setdefault(None, (reason,))
        for callback in list(self._callbacks):
            self._call(callback)

    def _call(self, callback: Callback) -> None:
        # Popped, so that of an abort and an `add_callback` in two threads just one calls it.
        taken = self._callbacks.pop(callback, None)
        try:
            if taken is not None:
                taken()
        except Exception:
            logging.getLogger("keepalive").exception("an abort callback raised")


@final
class AbortController:
    """Makes a signal, and aborts it.

    Needs no event loop: it may be made at import time. The web platform's names.

    Example:
        >>> evening = AbortController()
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, abort=evening.signal)
        >>> evening.abort("closing time")
        >>> evening.signal.reason
        'closing time'
    """

    __slots__ = ("_signal",)

    def __init__(self) -> None:
        self._signal = AbortSignal()

    @property
    def signal(self) -> AbortSignal:
        """The signal to hand out; always the same one."""
        return self._signal

    def abort(self, reason: object = None) -> None:
        """Abort the signal. From any thread, or a signal handler; never blocks.

        Everyone who waits is woken at once. Only the first call counts.

        Args:
            reason: Anything; it becomes `AbortSignal.reason`.
        """
        self._signal._abort(reason)
