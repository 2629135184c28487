"""One interface to the running event loop, asyncio's or trio's.

It is needed because anyio can't start a task outside a task group, and because a task group
around an app would change what the app's caller sees: its exceptions would become groups. trio
is never imported here; if it runs, it has been imported.
"""

import asyncio
import contextlib
import sys
import types
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    import trio

import anyio

from ._types import LOGGER, do_nothing

Cancel: TypeAlias = Callable[[], object]
Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


DONE: Final = "done"
"""Stands for the step that an awaitable does not have: it is over. `None` is a step."""


def current_loop() -> "Loop":
    """Return the event loop that runs the calling task.

    Raises:
        RuntimeError: Neither asyncio nor trio is running here.
    """
    if _trio_is_running():
        return TrioLoop()
    # pyright takes a callable in `__slots__`, `time`, for a method that would be bound.
    return AsyncioLoop()  # pyright: ignore[reportReturnType]


def cancellable(timeout: float | None = None) -> "CancellableBlock":
    """Return a context manager whose `cancel` cancels the code in it; on asyncio once.

    The code after the block runs on as usual; `cancel_called` tells whether the block was
    cancelled. `cancel` is to be called in the loop's thread.

    Args:
        timeout: Seconds after which the block is cancelled; `None`: never.
    """
    if _trio_is_running():
        running_trio = sys.modules["trio"]
        scope: trio.CancelScope = running_trio.CancelScope()
        if timeout is not None:
            scope.deadline = running_trio.current_time() + timeout
        return scope
    return _Block(timeout)


def must_propagate(error: BaseException) -> bool:
    """Whether an error must not be handled: a cancellation, or the end of the process."""
    kinds = (
        anyio.get_cancelled_exc_class(),
        GeneratorExit,
        KeyboardInterrupt,
        SystemExit,
    )
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.subgroup(kinds) is not None
    return isinstance(error, kinds)


def _trio_is_running() -> bool:
    trio_lowlevel = sys.modules.get("trio.lowlevel")
    return trio_lowlevel is not None and trio_lowlevel.in_trio_task()


class AsyncioLoop:
    """asyncio's running loop, or uvloop's.

    It is kept for as long as the event loop, which it therefore refers to weakly.
    """

    __slots__ = ("_context", "_reference", "_tasks")

    def __init__(self) -> None:
        self._reference = weakref.ref(asyncio.get_running_loop())
        self._tasks: dict[asyncio.Task[None], Callable[[], None]] = {}
        # Otherwise timers would run in the context of the task that set them, and keep it.
        self._context = Context()

    @property
    def has_tasks(self) -> bool:
        """Whether tasks that it has started are not over: it refers to the loop by them."""
        return bool(self._tasks)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._reference()
        if loop is None:
            raise RuntimeError("the event loop no longer exists")
        return loop

    def time(self) -> float:
        """Return the time of the loop's clock.

        Not `time.monotonic`, which is what it calls: a test may have replaced that temporarily
        (freezegun). A timer that is set by one clock and compared with another would be a busy
        loop.
        """
        return self._loop.time()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call a function in the next turn of the loop. To be called in the loop's thread."""
        self._loop.call_soon(callback, context=self._context)

    def call_at(self, when: float, callback: Callable[[], object]) -> Cancel:
        """Call a function at a time of the loop's clock; return a function that cancels it."""
        return self._loop.call_at(when, callback, context=self._context).cancel

    def wake(self, callback: Callable[[], None]) -> None:
        """Call a function soon. Thread-safe and signal-safe. On a closed loop, do nothing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, context=self._context)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        """Start a task in that context; return a function that cancels it.

        Raises whatever the loop's task factory raises. `done` is called when the task is over,
        even if it was cancelled before its first step.
        """
        coroutine = work()
        try:
            task = self._loop.create_task(coroutine, context=context)
        except BaseException:
            coroutine.close()
            raise
        self._tasks[task] = done  # the loop itself has only weak references to its tasks
        task.add_done_callback(self._over, context=self._context)
        return task.cancel

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)()


def _is_in_a_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no event loop is running
        return False


class _Block:
    """A block of code within a task that is cancelled once, as by `asyncio.timeout`.

    A cancel scope would cancel it again in each turn of the event loop: an app's cleanup
    could not await anything, and a send that is slow to be cancelled would be a busy loop.
    """

    __slots__ = ("_before", "_pending", "_task", "_timeout", "cancel_called")

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._pending: asyncio.Handle | None = None  # the cancellation to come
        self._task: asyncio.Task[Any] | None = None  # while the block runs
        self.cancel_called = False

    def __enter__(self) -> None:
        self._task = task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._before = task.cancelling()
        if self._timeout is not None:
            loop = asyncio.get_running_loop()  # granian's own kind of task has no `get_loop`
            self._pending = loop.call_later(self._timeout, self.cancel)

    def cancel(self) -> None:
        if self._task is None or self.cancel_called:
            return
        self.cancel_called = True
        if self._pending is not None:
            self._pending.cancel()
        if _is_in_a_task():
            # If it is this block's task, or one that it has started eagerly, the cancellation
            # would be delivered in the next `await`, which may come after the block.
            self._pending = asyncio.get_running_loop().call_soon(self._deliver)
        else:
            self._deliver()

    def _deliver(self) -> None:
        self._pending = None
        cast("asyncio.Task[Any]", self._task).cancel("the stream has been ended")

    def __exit__(
        self, kind: type[BaseException] | None, error: object, traceback: object
    ) -> bool:
        task, self._task = self._task, None
        if self._pending is not None:  # no cancellation has been delivered
            self._pending.cancel()
            return False
        if task is None or not self.cancel_called:
            return False
        # Others may have cancelled the task as well.
        only_by_this = task.uncancel() <= self._before
        return only_by_this and kind is not None and issubclass(kind, asyncio.CancelledError)


class TrioLoop:
    """trio's running loop, with the methods of `AsyncioLoop`.

    Tasks are system tasks, which end with the run.
    """

    __slots__ = ("_reference", "_trio", "has_tasks", "time")

    def __init__(self) -> None:
        self._trio = sys.modules["trio"]
        token: trio.lowlevel.TrioToken = self._trio.lowlevel.current_trio_token()
        self._reference = weakref.ref(token)
        self.has_tasks = False  # none that it refers to
        self.time = self._trio.current_time

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.wake(callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> Cancel:
        async def timer() -> None:
            await self._trio.sleep_until(when)
            callback()

        return self.spawn(timer, Context(), do_nothing)

    def wake(self, callback: Callable[[], None]) -> None:
        token = self._reference()
        if token is not None:
            with contextlib.suppress(RuntimeError):
                token.run_sync_soon(callback)

    def spawn(self, work: Work, context: Context, done: Callable[[], None]) -> Cancel:
        scope: trio.CancelScope = self._trio.CancelScope()

        async def task() -> None:
            try:
                with scope:
                    await work()
            except BaseException as error:  # a system task that fails ends the whole run
                if must_propagate(error):
                    raise
                LOGGER.exception("a task has failed")
            finally:
                done()

        self._trio.lowlevel.spawn_system_task(task, context=context)
        return scope.cancel


Loop: TypeAlias = AsyncioLoop | TrioLoop
CancellableBlock: TypeAlias = "_Block | trio.CancelScope"


def try_spawn(
    loop: Loop, work: Work, context: Context, done: Callable[[], None] = do_nothing
) -> Cancel | None:
    """Start a task; `None` if that fails, which is logged.

    It fails with a task factory that does not accept a context, for example.
    """
    try:
        return loop.spawn(work, context, done)
    except Exception:
        LOGGER.exception("a task could not be started")
        return None


def can_begin() -> bool:
    """Whether an awaitable may be begun before the block in which it is finished.

    trio's cancel scopes must be left in the reverse order, and a server may enter one in the
    first step. asyncio's cancellation has no such order.
    """
    return not _trio_is_running()


def steps_of(awaitable: Awaitable[None]) -> Generator[Any, Any, None]:
    """Return the iterator whose steps are those of awaiting something; see `finish`."""
    try:
        begin = awaitable.__await__
    except AttributeError:  # a coroutine that is a generator, by `types.coroutine`
        return cast("Generator[Any, Any, None]", awaitable)
    return begin()


@types.coroutine
def finish(steps: Generator[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """Await the rest of an awaitable whose first step has been made.

    Args:
        steps: The awaitable's iterator, as its `__await__` returned it.
        awaited: What its first step has yielded.
    """
    try:
        while True:
            try:
                value = yield awaited
            except GeneratorExit:
                if hasattr(steps, "close"):
                    steps.close()
                raise
            except BaseException as error:  # a cancellation, above all
                if not hasattr(steps, "throw"):
                    raise
                resume = partial(steps.throw, error)
            else:  # granian's awaitables have `__next__` alone, as PEP 492 allows
                resume = partial(next, steps) if value is None else partial(steps.send, value)
            try:
                awaited = resume()
            except StopIteration:
                return
            finally:
                del resume  # it may hold an error whose traceback refers to this frame
    finally:
        del awaited  # as above


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
