"""The tests' own clock."""

import asyncio
import threading
import time

import pytest
from support.harness import DeadlockError, VirtualLoop, _DeadlockDetector, run


def test_time_begins_at_1000_and_jumps():
    async def main():
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return began, asyncio.get_running_loop().time()

    real = time.monotonic()
    assert run("asyncio", main) == (1000, 4600)
    assert time.monotonic() - real < 60


def test_a_deadlock_is_detected(monkeypatch):
    monkeypatch.setattr(_DeadlockDetector, "patience", 0.01)
    loop = VirtualLoop()
    waiting = loop.create_task(asyncio.Event().wait())
    with pytest.raises(DeadlockError):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()


def test_waiting_for_another_thread_is_no_deadlock():
    async def main():
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        other = threading.Timer(0.02, loop.call_soon_threadsafe, [event.set])
        other.start()
        await event.wait()
        other.join()

    run("asyncio", main)
