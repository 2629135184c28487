"""The running event loop, asyncio's or trio's, behind the same few verbs.

Law: starts tasks, timers and callbacks, and tells the time. Knows nothing of streams.

anyio has no way to start a task outside a task group, hence this module. It never imports
trio: where trio runs, it has been imported.
"""

import asyncio
import contextlib
import logging
import sys
import time
import types
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    import trio

Cancel: TypeAlias = Callable[[], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


class Cancellable(AbstractContextManager[Any, bool], Protocol):
    """A block of code; leaving it behind is all that its cancellation does."""

    def cancel(self) -> None:
        """Cancel what the block is waiting for, once, while it is there.

        From the loop's own thread only.
        """
        ...  # pragma: no cover


class Loop(Protocol):
    """One running event loop."""

    @property
    def time(self) -> Callable[[], float]:
        """The loop's own clock, in seconds."""
        ...  # pragma: no cover

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's next turn. From the loop's own thread only."""
        ...  # pragma: no cover

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancel:
        """Call back at a time of the loop's clock; return what prevents it."""
        ...  # pragma: no cover

    def wake(self, callback: Callable[[], None]) -> None:
        """Call back soon; from any thread or signal handler. A loop that is over doesn't."""
        ...  # pragma: no cover

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        """Start a task in that context; return what cancels it.

        `done` is called when the task is over, be it cancelled before its first step.
        """
        ...  # pragma: no cover


def current_loop() -> Loop:
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: Neither asyncio nor trio is running here.
    """
    if _trio_runs():
        return TrioLoop()
    # pyright takes a callable in `__slots__`, `time`, for a method that would be bound.
    return AsyncioLoop()  # pyright: ignore[reportReturnType]


def cancellable() -> Cancellable:
    """Return a block of code of the calling task's that may be cancelled."""
    if _trio_runs():
        scope: trio.CancelScope = sys.modules["trio"].CancelScope()
        return scope
    return _Block()


def _trio_runs() -> bool:
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    return trio_lowlevel is not None and trio_lowlevel.in_trio_task()


class AsyncioLoop:
    """asyncio's running loop, or uvloop's."""

    __slots__ = ("_context", "_loop", "_tasks", "time")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], Callable[[], None]] = {}
        # Timers would otherwise run in, and keep alive, the context of whoever set them.
        self._context = Context()
        # That method does nothing but call this function, at twice the price.
        plain = getattr(self._loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.time = time.monotonic if plain else self._loop.time

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback, context=self._context)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancel:
        return self._loop.call_at(when, callback, context=self._context).cancel

    def wake(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, context=self._context)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        task = self._loop.create_task(work(), context=context)
        self._tasks[task] = done  # the loop itself refers to its tasks only weakly
        task.add_done_callback(self._over, context=self._context)
        return task.cancel

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)()


class _Block:
    """A block of code of one task's. Cancelled once, as asyncio does, not again and again.

    So that an app's clean-up may wait for something, which a cancel scope would not let it.
    """

    __slots__ = ("_before", "_cancelled", "_task")

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._before = self._task.cancelling()
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True
        self._task.cancel("the stream has been ended")

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: object
    ) -> bool:
        if not self._cancelled:
            return False
        # Somebody else may have cancelled the task as well.
        mine = self._task.uncancel() <= self._before
        return mine and kind is not None and issubclass(kind, asyncio.CancelledError)


class TrioLoop:
    """trio's running loop. Tasks are system tasks: they end with the run, and never fail."""

    __slots__ = ("_token", "_trio", "time")

    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        self._token: trio.lowlevel.TrioToken = self._trio.lowlevel.current_trio_token()
        self.time = self._trio.current_time

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.wake(callback)

    def call_at(self, when: float, callback: Callable[[], None]) -> Cancel:
        async def alarm() -> None:
            await self._trio.sleep_until(when)
            callback()

        return self.spawn(alarm, Context(), _nothing)

    def wake(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._token.run_sync_soon(callback)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        scope: trio.CancelScope = self._trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    await work()
            except Exception:  # it would end the whole run, and whatever else that serves
                logging.getLogger("keepalive").exception("a task has failed")
            finally:
                done()

        self._trio.lowlevel.spawn_system_task(task, context=context)
        return scope.cancel


def _nothing() -> None:
    """Do nothing, when a timer is over."""


@types.coroutine
def run_in(
    context: Context, coroutine: Coroutine[Any, Any, None], blocked: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Run a coroutine within the current task, but in a context of its own.

    `blocked` is called once, at the coroutine's first wait; not if it never has to wait.
    """
    resume, value = coroutine.send, None
    try:
        while True:
            try:
                awaited = context.run(resume, value)
            except StopIteration:
                return
            blocked()
            blocked = _nothing
            try:
                resume, value = coroutine.send, (yield awaited)
            except GeneratorExit:  # the loop has ended; its contexts may be in use
                coroutine.close()
                raise
            except BaseException as error:  # a cancellation, above all
                resume, value = coroutine.throw, error
            finally:
                del awaited  # it may hold an error, whose traceback refers to this frame
    finally:
        del value  # as above
