"""The event loop's interface: what outlives a loop, and awaitables that are begun by hand."""

import gc
from contextvars import Context, ContextVar

import anyio
import pytest
from support.harness import run, settle

from keepalive._eventloop import current_loop, finish, steps_of

WHO = ContextVar("who")


def test_a_loop_that_no_longer_exists_can_be_woken(backend):
    async def main():
        return current_loop()

    loop = run(backend, main)
    gc.collect()
    loop.wake(lambda: pytest.fail("there is nothing to run it"))
    assert loop._reference() is None


def test_a_loop_that_is_closed_can_be_woken(backend):
    async def main():
        loop = current_loop()
        return loop, loop._reference()

    loop, kept = run(backend, main)
    loop.wake(lambda: pytest.fail("there is nothing to run it"))
    assert loop._reference() is kept


def test_a_task_that_ends_with_the_loop_has_not_failed(backend, caplog):
    async def main():
        current_loop().spawn(anyio.sleep_forever, Context(), lambda: ended.append(True))
        await settle()
        assert not ended

    ended = []
    run(backend, main)
    assert ended == [True]
    assert caplog.messages == []


@pytest.mark.parametrize("call", ["call_soon", "wake", "call_at"])
def test_what_the_loop_calls_does_not_see_the_context_of_the_caller(backend, call):
    async def main():
        loop, seen = current_loop(), []
        WHO.set("the caller")
        when = (loop.time() + 1,) if call == "call_at" else ()
        getattr(loop, call)(*when, lambda: seen.append(WHO.get("nobody")))
        await anyio.sleep(2)
        return seen

    assert run(backend, main) == ["nobody"]


class Waiting:
    """An awaitable that is awaited twice, and notes how it ends."""

    def __init__(self):
        self.notes = []

    def __await__(self):
        for number in range(2):
            try:
                self.notes.append((yield number))
            except BaseException as error:
                self.notes.append(type(error))
                if isinstance(error, GeneratorExit):
                    raise
        self.notes.append("done")


def begun(waiting):
    """Return an awaitable whose first step has been made."""
    steps = steps_of(waiting)
    return finish(steps, next(steps))


def test_what_was_begun_is_finished():
    waiting = Waiting()
    rest = begun(waiting)
    assert [rest.send(None), rest.send("a")] == [0, 1]
    with pytest.raises(StopIteration):
        rest.send("b")
    assert waiting.notes == ["a", "b", "done"]


def test_errors_reach_what_was_begun():
    waiting = Waiting()
    rest = begun(waiting)
    assert [rest.send(None), rest.throw(ValueError())] == [0, 1]
    with pytest.raises(StopIteration):
        rest.throw(OSError())
    assert waiting.notes == [ValueError, OSError, "done"]


def test_what_was_begun_is_closed_with_what_awaits_it():
    waiting = Waiting()
    rest = begun(waiting)
    rest.send(None)
    rest.close()
    assert waiting.notes == [GeneratorExit]


class NextAlone:
    """An iterator that has neither `send` nor `throw` nor `close`."""

    def __await__(self):
        return self

    def __next__(self):
        return 0


def test_an_iterator_that_cannot_be_told_is_left_alone():
    rest = begun(NextAlone())
    assert [rest.send(None), rest.send(None)] == [0, 0]
    rest.close()
    rest = begun(NextAlone())
    rest.send(None)
    with pytest.raises(ValueError, match="told"):
        rest.throw(ValueError("told"))


def test_a_cancellation_reaches_what_was_begun(backend):
    async def main():
        async def sleep():
            try:
                await anyio.sleep(100)
            finally:
                notes.append(anyio.current_time() - began)

        began, notes = anyio.current_time(), []
        with anyio.move_on_after(3) as scope:
            steps = steps_of(sleep())
            await finish(steps, next(steps))
        return scope.cancelled_caught, notes

    assert run(backend, main) == (True, [3])
