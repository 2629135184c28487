"""The examples that show how a stream ends, on the virtual clock; without a server."""

import importlib.util
import logging
from pathlib import Path

import anyio
import pytest
from support.harness import END, PING, START, World, http, run, settle, tasks_left

from keepalive import AbortController

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
STOPPING = b"event: stopping\ndata: \n\n"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.skipif(
    not EXAMPLES.exists(), reason="the examples are not in this copy of the tests"
)


@pytest.fixture(autouse=True)
def _records(caplog):
    caplog.set_level(logging.INFO, "runner")
    caplog.set_level(logging.INFO, "connection")


def serve(backend, app, scope=None, *, at=(), beside=None, prepare=lambda world: None):
    """Serve one stream of an app; return the world, and when the call was over."""

    async def main():
        world = World()
        prepare(world)

        async def later(when, what):
            await world.sleep_until(when)
            what()

        async with anyio.create_task_group() as tasks:
            if beside is not None:
                tasks.start_soon(beside)
            for when, what in at:
                tasks.start_soon(later, when, what)
            await app(scope or http(query_string=b""), world.receive, world.send)
            over = world.now()
            tasks.cancel_scope.cancel()
        await settle()
        assert tasks_left() == 0
        return world, over

    return run(backend, main)


def leaving(when):
    def prepare(world):
        world.leave_at = when

    return prepare


# the runner


class Rented:
    """A runner and what it is served with."""

    def __init__(self, **options):
        module = example("runner")
        self.runner, self.abort = module.Runner(**options), AbortController()
        self.app = module.app_of(self.runner, self.abort)
        self.hello = b"event: runner\ndata: %b\n\n" % self.runner.id.encode()

    def serve(self, backend, **options):
        return serve(backend, self.app, beside=self.runner.run, **options)

    def ended(self, reason):
        return [f"the stream of runner {self.runner.id} has ended: {reason}"]


def test_the_client_of_a_runner_leaves_and_the_runner_shuts_down(backend, caplog):
    rented = Rented()
    world, over = rented.serve(backend, prepare=leaving(3.5))
    pings = [(when, PING) for when in (1, 2, 3)]
    assert world.timeline == [(0, START), (0, rented.hello), *pings]
    assert over == 5.5
    assert rented.runner.stopped.aborted
    assert caplog.messages == rented.ended("disconnected")


def test_a_runner_that_shuts_down_ends_its_stream(backend, caplog):
    rented = Rented()
    world, over = rented.serve(backend, at=[(2.5, rented.runner.shut_down)])
    assert world.timeline == [
        (0, START), (0, rented.hello), (1, PING), (2, PING), (2.5, STOPPING), (2.5, END)
    ]  # fmt: skip
    assert over == 4.5
    assert rented.runner.stopped.aborted
    assert caplog.messages == rented.ended("shutdown")


def test_the_stream_of_a_runner_is_aborted(backend, caplog):
    rented = Rented()
    world, over = rented.serve(backend, at=[(1.5, rented.abort.abort)])
    assert world.timeline == [
        (0, START), (0, rented.hello), (1, PING), (1.5, STOPPING), (1.5, END)
    ]  # fmt: skip
    assert over == 3.5
    assert caplog.messages == rented.ended("aborted")


def test_a_runner_that_does_not_stop_is_waited_for_no_longer_than_said(backend):
    rented = Rented(wind_down=1000)
    _, over = rented.serve(backend, prepare=leaving(3.5))
    assert over == 13.5
    assert not rented.runner.stopped.aborted


def test_the_stream_of_a_runner_whose_client_does_not_read_ends_all_the_same(backend):
    def prepare(world):
        world.slow = lambda message: 10**6 if message.get("body") in (STOPPING, b"") else 0

    rented = Rented()
    world, over = rented.serve(backend, at=[(2.5, rented.runner.shut_down)], prepare=prepare)
    assert world.timeline[-1] == (2, PING)
    assert over == 4.5
    assert rented.runner.stopped.aborted


# the connection


@pytest.fixture
def connection(monkeypatch):
    """The example's module, with all connections that it opens in `opened`."""
    module = example("connection")
    module.opened = []

    class Connection(module.Connection):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            module.opened.append(self)

    monkeypatch.setattr(module, "Connection", Connection)
    return module


def query(text):
    return http(query_string=text)


def closed(connection):
    (opened,) = connection.opened
    return opened.closed


def test_a_connection_is_relayed_and_closed(backend, connection, caplog):
    scope = query(b"messages=2&silence=2.5")
    world, over = serve(backend, connection.app, scope)
    assert world.timeline == [
        (0, START), (1, PING), (2, PING), (2.5, b"data: message 1\n\n"), (3.5, PING),
        (4.5, PING), (5, b"data: message 2\n\n"), (5, END),
    ]  # fmt: skip
    assert closed(connection)
    assert over == 5.1
    assert caplog.messages == ["the connection is closed"]


def test_a_connection_that_fails_is_logged_and_closed_and_the_stream_says_so(
    backend, connection, caplog
):
    world, over = serve(backend, connection.app, query(b"messages=1&silence=0.5&fail=yes"))
    assert world.timeline == [
        (0, START), (0.5, b"data: message 1\n\n"),
        (1, b"event: error\ndata: upstream has failed\n\n"), (1, END),
    ]  # fmt: skip
    assert closed(connection)
    assert over == 1.1
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message == "the connection has failed"
    assert record.exc_info[0] is ConnectionResetError


def test_a_connection_is_closed_when_the_client_leaves(backend, connection, caplog):
    world, over = serve(backend, connection.app, query(b"silence=10"), prepare=leaving(3.5))
    assert world.timeline == [(0, START), (1, PING), (2, PING), (3, PING)]
    assert closed(connection)
    assert over == 3.6
    assert caplog.messages == [
        "the stream is to end: disconnected",
        "the connection is closed",
    ]


def test_a_connection_may_finish_within_the_drain(backend, connection):
    at = [(1.5, connection.app.shutdown)]
    world, _ = serve(backend, connection.app, query(b"messages=1&silence=3"), at=at)
    assert world.timeline == [
        (0, START), (1, PING), (3, b"data: message 1\n\n"), (3, END)
    ]  # fmt: skip
    assert closed(connection)


def test_a_connection_that_goes_on_is_ended_and_closed(backend, connection, caplog):
    at = [(1.5, connection.app.shutdown)]
    world, over = serve(backend, connection.app, query(b"silence=100"), at=at)
    assert world.timeline == [(0, START), (1, PING), (6.5, STOPPING), (6.5, END)]
    assert closed(connection)
    assert over == pytest.approx(7.6)
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2
