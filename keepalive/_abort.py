"""Abort controllers and signals, as on the web platform.

They can be created anywhere, and aborted from any thread and from signal handlers. They don't
use locks, since a signal handler may have interrupted the owner of one.

Source: WHATWG DOM, section 3.2, "Interface AbortSignal".
"""

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, final

import anyio
from anyio.lowlevel import checkpoint

from ._eventloop import current_loop
from ._types import do_nothing, log_errors

Callback: TypeAlias = Callable[[], object]


@final
class AbortSignal:
    """A one-shot flag, with a reason, that tells tasks to stop. See `AbortController.signal`.

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
        # Single operations on a dict are atomic; that is why these are dicts.
        self._outcome: dict[None, tuple[object]] = {}
        self._callbacks: dict[Callback, Callback] = {}

    @property
    def aborted(self) -> bool:
        """Whether the controller has aborted."""
        return bool(self._outcome)

    @property
    def reason(self) -> object:
        """The argument of `AbortController.abort`; `None` until then."""
        return self._outcome.get(None, (None,))[0]

    def add_callback(self, callback: Callback) -> None:
        """Add a function that is called, without arguments, when the signal is aborted.

        If the signal has been aborted already, it is called immediately. A function that is
        added twice is called once. It runs in the thread, or the signal handler, that aborts:
        it must be quick and must not block. Exceptions are logged.

        Raises:
            TypeError: The callback is not callable, or not hashable.
        """
        if not callable(callback):
            raise TypeError(f"callback must be callable, got {callback!r}")
        self._callbacks[callback] = callback
        if self.aborted:
            self._call(callback)

    def remove_callback(self, callback: Callback) -> None:
        """Remove a callback. One that was not added, or was called, is ignored."""
        self._callbacks.pop(callback, None)

    async def wait(self) -> object:
        """Wait until the signal is aborted, and return the reason.

        Any number of tasks may wait, on asyncio and on trio. An abort, from any thread, wakes
        all of them immediately.

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
        # Popped, so that only one of an abort and an `add_callback` in two threads calls it.
        taken = self._callbacks.pop(callback, do_nothing)
        with log_errors("an abort callback raised"):
            taken()


class WeakCallback:
    """A callback that calls a method, and is removed when the method's object is deleted.

    Two callbacks for the same method are equal, and equal to the key that stands for it.
    """

    __slots__ = ("_function", "_key", "_owner")

    def __init__(self, signal: AbortSignal, method: Callback) -> None:
        owner: object = method.__self__  # type: ignore[attr-defined]
        self._function: Callable[[Any], object] = method.__func__  # type: ignore[attr-defined]
        self._key = (id(owner), self._function)
        # The reference refers to the key and not to this object: that would be a cycle.
        forget = partial(_forget, weakref.ref(signal), self._key)
        self._owner = weakref.ref(owner, forget)

    def __call__(self) -> None:
        owner = self._owner()
        if owner is not None:
            self._function(owner)

    def __eq__(self, other: object) -> bool:
        return self._key == (other._key if isinstance(other, WeakCallback) else other)

    def __hash__(self) -> int:
        return hash(self._key)


def _forget(reference: weakref.ref[AbortSignal], key: Any, _: object) -> None:
    signal = reference()
    if signal is not None:
        signal.remove_callback(key)


@final
class AbortController:
    """Creates an `AbortSignal`, and triggers it. Named after the Web API of the same name.

    It needs no event loop, and may be created at import time.

    Example:
        >>> shutdown = AbortController()
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, abort=shutdown.signal)
        >>> shutdown.abort("restart")
        >>> shutdown.signal.reason
        'restart'
    """

    __slots__ = ("_signal",)

    def __init__(self) -> None:
        self._signal = AbortSignal()

    @property
    def signal(self) -> AbortSignal:
        """The signal; always the same one."""
        return self._signal

    def abort(self, reason: object = None) -> None:
        """Abort the signal. Thread-safe and signal-safe; never blocks.

        All waiting tasks are woken immediately. Only the first call has an effect.

        Args:
            reason: Anything; it becomes `AbortSignal.reason`.
        """
        self._signal._abort(reason)
