"""What an app does with its `receive` and `send`, observed by hand: which calls count."""

import anyio
import pytest
from support.harness import body, run

from keepalive._activity import AppActivity, Silence

REQUEST = {"type": "http.request", "body": b"", "more_body": False}


async def never():
    await anyio.sleep(10**6)


async def answer():
    return REQUEST


def test_an_app_listens_while_one_of_its_receives_is_pending(backend):
    async def main():
        activity = AppActivity()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(activity.receive, never)
            await anyio.sleep(1)
            await activity.receive(answer)
            pending = activity.is_listening
            tasks.cancel_scope.cancel()
        return pending

    assert run(backend, main)


def test_an_app_polls_whose_receive_was_cancelled(backend):
    async def main():
        activity = AppActivity()
        with anyio.move_on_after(1):
            await activity.receive(never)
        polling = activity.is_listening
        await activity.receive(answer)
        return polling, activity.is_listening

    assert run(backend, main) == (True, False)


def test_an_app_does_not_listen_whose_receive_has_failed(backend):
    async def fail():
        raise OSError

    async def main():
        activity = AppActivity()
        with pytest.raises(OSError, match=r"^$"):
            await activity.receive(fail)
        return activity.is_listening

    assert not run(backend, main)


def test_an_app_does_not_listen_that_has_closed_its_receive(backend):
    async def main():
        activity = AppActivity()
        receiving = activity.receive(never)
        receiving.send(None)
        pending = activity.is_listening
        receiving.close()
        return pending, activity.is_listening

    assert run(backend, main) == (True, False)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def silence(clock):
    """One that has begun at 0."""
    silence = Silence(clock)
    silence.begin()
    return silence


def test_a_send_of_no_bytes_that_takes_no_time_is_not_noticed(silence):
    silence.pause()
    silence.resume(is_data=False)
    assert silence.ends_at(10, last_data=0) == 10


@pytest.mark.parametrize(("data", "end"), [(b"x", 15), (b"", 12)])
def test_bytes_that_are_sent_end_the_silence(backend, clock, silence, data, end):
    """Without bytes, it is longer by the two seconds that the send takes."""

    async def send(message):
        assert silence.is_paused
        clock.now += 2

    async def main():
        clock.now = 3
        await silence.send(send, body(data))

    run(backend, main)
    assert silence.ends_at(10, last_data=0) == end
