"""An error of the app's is never lost: it comes out, or there is a log record of it."""

import anyio
import pytest
from support.endings import aborted, shut_down
from support.harness import play

from keepalive import KeepaliveMiddleware

pytestmark = pytest.mark.timeout(20)


class BugError(Exception):
    pass


def chain(error):
    """Return an error, and all that it comes of."""
    found, left = [], [error]
    while left:
        each = left.pop()
        if each is None or each in found:
            continue
        found.append(each)
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return found


def is_known(error, came_out, caplog):
    """Whether an error came out of the call, or was logged."""
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    return any(error in chain(each) for each in [*came_out, *logged])


def kept(came_out):
    """Return what makes the middleware, and keeps what comes out of its calls."""

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)

        async def call(scope, receive, send):
            try:
                await made(scope, receive, send)
            except Exception as error:
                came_out.append(error)

        return call

    return wrap


async def slow_clean_up(scope, receive, send, error):
    try:
        await anyio.sleep(23)
        raise error
    finally:
        await anyio.sleep(10)  # the stream is ended at 25, and the app cancelled at 26


async def error_in_a_clean_up(scope, receive, send, error):
    try:
        await anyio.sleep(10**6)
    finally:
        raise error


async def error_in_a_clean_up_that_waits_too_long(scope, receive, send, error):
    try:
        await anyio.sleep(10**6)
    finally:
        try:
            raise error
        finally:
            await anyio.sleep(0)


async def error_in_a_group(scope, receive, send, error):
    async def fail():
        await anyio.sleep(23)
        raise error

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        try:
            await anyio.sleep(10**6)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10)


APPS = [
    slow_clean_up,
    error_in_a_clean_up,
    error_in_a_clean_up_that_waits_too_long,
    error_in_a_group,
]


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize("ended", [aborted, "lifetime"])
def test_an_error_of_an_app_that_is_cancelled_is_known(
    backend, log, caplog, monkeypatch, app, ended
):
    caplog.set_level("DEBUG", "keepalive")
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    error, came_out = BugError(), []

    async def step(scope, receive, send):
        await app(scope, receive, send, error)

    if ended == "lifetime":
        play(backend, [(0, step)], wrap=kept(came_out), max_lifetime=25)
    else:
        ended(backend, log, [(0, step)], wrap=kept(came_out))
    assert is_known(error, came_out, caplog)


def test_an_error_of_an_app_that_is_cancelled_for_a_shutdown_is_known(backend, log, caplog):
    caplog.set_level("DEBUG", "keepalive")
    error, came_out, made = BugError(), [], []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))

        async def call(scope, receive, send):
            try:
                await made[0](scope, receive, send)
            except Exception as error:
                came_out.append(error)

        return call

    async def step(scope, receive, send):
        await slow_clean_up(scope, receive, send, error)

    at = [(20, lambda: made[0].shutdown())]
    play(backend, [(0, step)], wrap=wrap, at=at, drain=5)
    assert is_known(error, came_out, caplog)


def test_an_app_that_is_cancelled_and_fails_in_no_way_logs_nothing(backend, log, caplog):
    shut_down(backend, log, [(1, log.stay)])
    assert log == [(26, "cancelled")]
    assert caplog.records == []
