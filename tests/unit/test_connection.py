"""Calls to the server that are interrupted: how it reacts does not matter to the app."""

import anyio
import pytest
from support.harness import run

from keepalive._connection import OPEN, REVOKED, RevocableConnection


async def raise_when_cancelled(*_):
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        raise OSError("closed") from None


async def connect(tasks):
    """Return a connection that is open and will be revoked after a second."""
    connection = RevocableConnection(raise_when_cancelled, raise_when_cancelled, None)
    connection.state = OPEN

    async def revoke():
        await anyio.sleep(1)
        connection.state = REVOKED
        connection.interrupt()

    tasks.start_soon(revoke)
    return connection


def test_a_receive_that_fails_when_it_is_interrupted_is_a_disconnect(backend):
    async def main():
        async with anyio.create_task_group() as tasks:
            connection = await connect(tasks)
            return await connection.receive()

    assert run(backend, main) == {"type": "http.disconnect"}


def test_a_send_that_fails_when_it_is_interrupted_is_discarded(backend):
    async def discard():
        discarded.append(anyio.current_time())

    async def main():
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            connection = await connect(tasks)
            connection.discard = discard
            await connection.send({"type": "http.response.body"})
        return began

    discarded = []
    began = run(backend, main)
    assert discarded == [began + 1]


def test_a_receive_that_fails_by_itself_raises(backend):
    async def fail():
        raise OSError("closed")

    async def main():
        await RevocableConnection(fail, fail, None).receive()

    with pytest.raises(OSError, match="closed"):
        run(backend, main)
