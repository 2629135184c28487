"""An app's errors whose causes lead in a circle: they come out unchanged, and nothing hangs.

`raise error from error` is the smallest circle; helpers that retry make larger ones.
"""

import anyio
import pytest
from support.endings import FAREWELL, X, aborted, slow_to_send
from support.harness import body, play

from keepalive import KeepaliveMiddleware

# A hang is in plain Python code, so a signal ends it.
pytestmark = pytest.mark.timeout(20)


class CleanUpError(Exception):
    pass


def by_itself():
    error = CleanUpError()
    error.__cause__ = error
    return error


def in_two_steps():
    first, second = CleanUpError("first"), LookupError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def behind_others():
    """A circle that the error itself is no part of."""
    error = CleanUpError()
    error.__cause__ = LookupError()
    error.__cause__.__cause__ = in_two_steps()
    return error


def by_context():
    first, second = CleanUpError("first"), LookupError("second")
    first.__context__, second.__cause__ = second, first
    return first


def by_a_group():
    error = CleanUpError()
    group = ExceptionGroup("several", [error])
    error.__cause__, group.__cause__ = group, error
    return group


def by_a_member_of_a_group():
    """The group is no part of the circle."""
    return ExceptionGroup("several", [in_two_steps(), by_itself()])


def in_deep_groups():
    """No circle, but deeper than the stack of calls may be."""
    error = CleanUpError()
    for _ in range(3000):
        error = ExceptionGroup("nested", [error])
    return error


CIRCLES = [
    by_itself,
    in_two_steps,
    behind_others,
    by_context,
    by_a_group,
    by_a_member_of_a_group,
]


def leaves(error):
    return [*error.exceptions] if isinstance(error, ExceptionGroup) else [error]


def links(error):
    return error.__cause__, error.__suppress_context__


def caught(backend, log, raise_it, player=aborted, **options):
    """Play an app that fails when its stream has been ended; return what came out."""
    errors = []

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)

        async def call(scope, receive, send):
            try:
                await made(scope, receive, send)
            except Exception as error:
                errors.append(error)

        return call

    steps = [(1, raise_it)]
    given = (backend, steps) if player is play else (backend, log, steps)
    player(*given, wrap=wrap, **options)
    return errors


@pytest.mark.parametrize("make", CIRCLES)
def test_an_error_of_a_cancelled_app_comes_out_unchanged(backend, log, make):
    error = make()
    before = links(error)

    async def fail(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            raise error

    (found,) = caught(backend, log, fail)
    # trio makes a group anew that passes a cancelled scope, of the same errors.
    assert [id(each) for each in leaves(found)] == [id(each) for each in leaves(error)]
    assert links(error) == before


@pytest.mark.parametrize("make", [*CIRCLES, in_deep_groups])
def test_an_error_of_an_app_that_was_told_comes_out_unchanged(backend, log, make):
    error = make()
    before = links(error)

    async def fail(scope, receive, send):
        await log.listen(scope, receive, send)
        raise error

    (found,) = caught(backend, log, fail)
    assert found is error
    assert links(error) == before


def test_an_error_after_a_max_lifetime_comes_out_unchanged(backend, log):
    error = by_itself()

    async def fail(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            raise error

    options = {"drain": None, "farewell": FAREWELL, "max_lifetime": 10}
    assert caught(backend, log, fail, **options) == [error]


def test_an_error_after_a_send_timeout_comes_out_unchanged(backend, log):
    error = by_itself()

    async def fail(scope, receive, send):
        try:
            await send(body(X))
        except OSError:
            await anyio.sleep(0)
        raise error

    def prepare(world):
        world.slow = lambda message: 10**6 if message.get("body") == X else 0

    options = {"prepare": prepare, "send_timeout": 5}
    assert caught(backend, log, fail, player=play, **options) == [error]


async def raise_it_from_itself(scope, receive, send):
    try:
        await send(body(X))
    except OSError as error:
        raise error from error


async def raise_it_from_its_translation(scope, receive, send):
    try:
        await send(body(X))
    except OSError as gone:
        try:
            raise RuntimeError("translated") from gone
        except RuntimeError as translated:
            raise gone from translated


async def raise_another_from_it(scope, receive, send):
    """Within the handling of a third one, which is then the context."""
    try:
        await send(body(X))
    except OSError as error:
        gone = error
    try:
        raise LookupError
    except LookupError:
        raise RuntimeError from gone


async def raise_another_from_a_group_with_it_as_its_cause(scope, receive, send):
    try:
        await send(body(X))
    except OSError as error:
        gone = error
    group = ExceptionGroup("clean-up", [CleanUpError()])
    group.__cause__ = gone
    raise RuntimeError from group


@pytest.mark.parametrize(
    "app",
    [
        raise_it_from_itself,
        raise_it_from_its_translation,
        raise_another_from_it,
        raise_another_from_a_group_with_it_as_its_cause,
    ],
)
def test_what_comes_of_the_error_of_a_send_goes_no_further(backend, log, app):
    """The stream is ended while a send is blocked."""
    assert caught(backend, log, app, prepare=slow_to_send(X, 10**6, log)) == []
