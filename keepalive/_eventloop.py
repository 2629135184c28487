"""One interface to the running event loop, asyncio's or trio's.

It is needed because anyio can't start a task outside a task group, and because a task group
around an app would change what the app's caller sees: its exceptions would become groups. trio
is never imported here; if it runs, it has been imported.
"""

import asyncio
import contextlib
import sys
import time
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    import trio

from ._types import LOGGER, do_nothing

Cancel: TypeAlias = Callable[[], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


def current_loop() -> "Loop":
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: Neither asyncio nor trio is running here.
    """
    if _trio_is_running():
        return TrioLoop()
    # pyright takes a callable in `__slots__`, `time`, for a method that would be bound.
    return AsyncioLoop()  # pyright: ignore[reportReturnType]


def cancellable() -> "AppCall":
    """Return a context manager whose `cancel` cancels the code in it, once.

    The code after it runs on as usual. `cancel` is to be called in the loop's thread.
    """
    if _trio_is_running():
        scope: trio.CancelScope = sys.modules["trio"].CancelScope()
        return scope
    return _Block()


def _trio_is_running() -> bool:
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    return trio_lowlevel is not None and trio_lowlevel.in_trio_task()


class AsyncioLoop:
    """asyncio's running loop, or uvloop's."""

    __slots__ = ("_context", "_loop", "_tasks", "time")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], Callable[[], None]] = {}
        # Otherwise timers would run in the context of the task that set them, and keep it.
        self._context = Context()
        # The method does nothing but call this function, and takes twice as long.
        plain = getattr(self._loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.time = time.monotonic if plain else self._loop.time

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back in the next turn of the loop. To be called in the loop's thread."""
        self._loop.call_soon(callback, context=self._context)

    def call_at(self, when: float, callback: Callable[[], object]) -> Cancel:
        """Call back at a time of the loop's clock; return a function that prevents it."""
        return self._loop.call_at(when, callback, context=self._context).cancel

    def wake(self, callback: Callable[[], None]) -> None:
        """Call back soon. Thread-safe and signal-safe. A closed loop does nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, context=self._context)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        """Start a task in that context; return a function that cancels it.

        `done` is called when the task is over, even if it was cancelled before its first step.
        """
        task = self._loop.create_task(work(), context=context)
        self._tasks[task] = done  # the loop itself has only weak references to its tasks
        task.add_done_callback(self._over, context=self._context)
        return task.cancel

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)()


class _Block:
    """A block of code of one task. It is cancelled once, as asyncio does.

    A cancel scope would cancel it at each `await`, so that an app's clean-up could not wait
    for anything.
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
        only_by_this = self._task.uncancel() <= self._before
        return only_by_this and kind is not None and issubclass(kind, asyncio.CancelledError)


class TrioLoop:
    """trio's running loop, with the methods of `AsyncioLoop`.

    Tasks are system tasks, which end with the run.
    """

    __slots__ = ("_token", "_trio", "time")

    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        self._token: trio.lowlevel.TrioToken = self._trio.lowlevel.current_trio_token()
        self.time = self._trio.current_time

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.wake(callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> Cancel:
        async def timer() -> None:
            await self._trio.sleep_until(when)
            callback()

        return self.spawn(timer, Context(), do_nothing)

    def wake(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._token.run_sync_soon(callback)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        scope: trio.CancelScope = self._trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    await work()
            except Exception:  # a system task that fails ends the whole run
                LOGGER.exception("a task has failed")
            finally:
                done()

        self._trio.lowlevel.spawn_system_task(task, context=context)
        return scope.cancel


Loop: TypeAlias = AsyncioLoop | TrioLoop
AppCall: TypeAlias = "_Block | trio.CancelScope"


@types.coroutine
def run_in(
    context: Context, coroutine: Coroutine[Any, Any, None], blocked: Callable[[], None]
) -> Generator[Any, Any, None]:
    """Run a coroutine in the current task, but in a context of its own.

    `blocked` is called when the coroutine first suspends; never if it does not.
    """
    resume, value = coroutine.send, None
    try:
        while True:
            try:
                awaited = context.run(resume, value)
            except StopIteration:
                return
            blocked()
            blocked = do_nothing
            try:
                resume, value = coroutine.send, (yield awaited)
            except GeneratorExit:  # the loop has ended, and the context may be in use
                coroutine.close()
                raise
            except BaseException as error:  # a cancellation, above all
                resume, value = coroutine.throw, error
            finally:
                del awaited  # it may hold an error whose traceback refers to this frame
    finally:
        del value  # as above
