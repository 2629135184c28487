"""`AbortController` and `AbortSignal`: one shot, from anywhere, to anywhere."""

import gc
import signal
import threading

import anyio
import pytest
from support.harness import run, settle

from keepalive import AbortController
from keepalive._abort import WeakCallback


def test_a_new_signal_is_not_aborted():
    controller = AbortController()
    assert controller.signal is controller.signal
    assert (controller.signal.aborted, controller.signal.reason) == (False, None)


def test_the_first_abort_wins():
    controller = AbortController()
    controller.abort("one")
    controller.abort("two")
    assert (controller.signal.aborted, controller.signal.reason) == (True, "one")


def test_an_abort_without_a_reason_is_one():
    controller = AbortController()
    controller.abort()
    assert (controller.signal.aborted, controller.signal.reason) == (True, None)


def test_callbacks_are_called_once_in_order():
    controller, calls = AbortController(), []
    callbacks = [lambda i=i: calls.append(i) for i in range(5)]
    for callback in [*callbacks, callbacks[0]]:
        controller.signal.add_callback(callback)
    controller.signal.remove_callback(callbacks[2])
    controller.signal.remove_callback(callbacks[2])
    assert calls == []
    controller.abort()
    controller.abort()
    assert calls == [0, 1, 3, 4]


def test_a_callback_on_an_aborted_signal_is_called_at_once():
    controller, calls = AbortController(), []
    controller.abort()
    controller.signal.add_callback(lambda: calls.append(1))
    assert calls == [1]


def test_a_callback_that_raises_is_logged_and_stops_no_other(caplog):
    controller, calls = AbortController(), []
    controller.signal.add_callback(lambda: 1 / 0)
    controller.signal.add_callback(lambda: calls.append(1))
    controller.abort()
    assert calls == [1]
    (record,) = caplog.records
    assert record.name == "keepalive"
    assert record.exc_info[0] is ZeroDivisionError


def test_a_callback_that_another_one_removes_is_not_called():
    controller = AbortController()
    other = lambda: pytest.fail("called")
    controller.signal.add_callback(lambda: controller.signal.remove_callback(other))
    controller.signal.add_callback(other)
    controller.abort()


def test_a_callback_may_abort_and_add_again():
    controller, calls = AbortController(), []

    def callback():
        controller.abort("again")
        controller.signal.add_callback(lambda: calls.append(controller.signal.reason))

    controller.signal.add_callback(callback)
    controller.abort("first")
    assert calls == ["first"]


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="callback must be callable, got 3"):
        AbortController().signal.add_callback(3)
    with pytest.raises(TypeError, match="unhashable"):
        AbortController().signal.add_callback(type("C", (list,), {"__call__": print})())


def test_many_waiters_are_woken(backend):
    async def main():
        controller, woken = AbortController(), []

        async def wait():
            woken.append(await controller.signal.wait())

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await settle()
            assert woken == []
            controller.abort("now")
        return woken, await controller.signal.wait()

    assert run(backend, main) == (["now"] * 3, "now")


def test_a_wait_that_is_cancelled_leaves_nothing_behind(backend):
    async def main():
        controller = AbortController()
        with anyio.move_on_after(1) as scope:
            await controller.signal.wait()
        assert scope.cancelled_caught
        assert not controller.signal._callbacks
        controller.abort()
        with anyio.move_on_after(1) as scope:
            scope.cancel()
            await controller.signal.wait()
        assert scope.cancelled_caught

    run(backend, main)


def test_from_a_thread_to_loops_in_other_threads(backend):
    controller, reasons = AbortController(), []
    ready = threading.Barrier(4)

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settle()
            ready.wait(5)

    async def wait():
        reasons.append(await controller.signal.wait())

    threads = [threading.Thread(target=run, args=(backend, main)) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(5)
    controller.abort("stop")
    for thread in threads:
        thread.join(10)
    assert reasons == ["stop"] * 3


def test_from_a_signal_handler(backend):
    controller = AbortController()
    before = signal.signal(signal.SIGUSR1, lambda *_: controller.abort("signal"))

    async def main():
        async with anyio.create_task_group() as group:

            async def kick():
                await settle()
                signal.raise_signal(signal.SIGUSR1)

            group.start_soon(kick)
            return await controller.signal.wait()

    try:
        assert run(backend, main) == "signal"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_loop_that_is_over_has_nobody_to_wake(backend):
    """Neither an error nor a log record, when a waiter's loop died under it."""
    controller = AbortController()

    async def main():
        from support.internals import current_loop

        return current_loop()

    loop = run(backend, main)
    controller.signal.add_callback(lambda: loop.wake(lambda: pytest.fail("woken")))
    controller.abort()


def test_of_adding_and_aborting_in_two_threads_each_callback_is_called_once():
    for _ in range(200):
        controller, calls = AbortController(), []
        barrier = threading.Barrier(2)

        def add(controller=controller, calls=calls, barrier=barrier):
            barrier.wait()
            for i in range(20):
                controller.signal.add_callback(lambda i=i: calls.append(i))

        thread = threading.Thread(target=add)
        thread.start()
        barrier.wait()
        controller.abort()
        thread.join()
        assert sorted(calls) == list(range(20))


class Owner:
    def __init__(self, calls):
        self.calls = calls

    def call(self):
        self.calls.append(self)


def test_a_weak_callback_is_removed_with_its_object():
    controller, calls = AbortController(), []
    owner = Owner(calls)
    callback = WeakCallback(controller.signal, owner.call)
    controller.signal.add_callback(callback)
    assert callback == WeakCallback(controller.signal, owner.call) != owner.call
    del owner
    gc.collect()
    assert not controller.signal._callbacks
    callback()  # an abort in another thread may have been about to call it
    assert calls == []


def test_a_weak_callback_calls_its_method():
    controller, calls = AbortController(), []
    owner = Owner(calls)
    controller.signal.add_callback(WeakCallback(controller.signal, owner.call))
    controller.abort()
    assert calls == [owner]


def test_a_weak_callback_may_outlive_its_signal():
    controller, calls = AbortController(), []
    owner = Owner(calls)
    callback = WeakCallback(controller.signal, owner.call)
    del controller
    gc.collect()
    del owner
    gc.collect()
    callback()
    assert calls == []
