"""Mistakes that would show only at a shutdown, or never, are reported at construction."""

import functools
import logging
import re
import signal

import pytest
from support.harness import END, http, play

from keepalive import KeepaliveMiddleware, Policy, on_signals

WHAT_WOULD_HAPPEN = "a signal only stops the pings, and the server waits for its open streams"


async def app(scope, receive, send): ...


# on_signals without a drain


@pytest.fixture
def owner():
    owner = on_signals(signal.SIGUSR1)
    yield owner
    owner.restore()


def test_on_signals_needs_a_drain(owner):
    with pytest.raises(ValueError, match=f"^on_signals needs drain, .*{WHAT_WOULD_HAPPEN}"):
        KeepaliveMiddleware(app, on_shutdown=owner)
    with pytest.raises(ValueError, match=WHAT_WOULD_HAPPEN):
        KeepaliveMiddleware(app, on_shutdown=owner, max_lifetime=5, routes={"/a": None})
    KeepaliveMiddleware(app, on_shutdown=owner, drain=0)
    KeepaliveMiddleware(app, on_shutdown=print)


def test_a_complete_policy_needs_a_drain_too_and_the_message_names_the_route(owner):
    routes = {"/a": {"drain": None}, "/b": 5.0, "/c/{x}": Policy(interval=5)}
    with pytest.raises(ValueError, match=r"^routes\['/c/{x}'\]: on_signals needs"):
        KeepaliveMiddleware(app, on_shutdown=owner, drain=1, routes=routes)
    KeepaliveMiddleware(app, drain=1, routes=routes)
    del routes["/c/{x}"]  # an explicit None in a mapping is meant
    KeepaliveMiddleware(app, on_shutdown=owner, drain=1, routes=routes)


def test_a_callables_policy_without_a_drain_is_warned_of_once(backend, owner, caplog):
    values = [Policy(interval=5), Policy(interval=6), {"drain": None}, Policy(drain=1), 5.0]
    middleware = KeepaliveMiddleware(
        app, on_shutdown=owner, drain=1, routes=lambda scope: values[int(scope["path"][1:])]
    )

    def warnings():
        return [record for record in caplog.records if record.levelno == logging.WARNING]

    for path in "/4", "/3", "/2":
        middleware._routes.match(http(path))
        assert warnings() == []
    for path in "/0", "/1", "/0":
        assert middleware._routes.match(http(path)).policy.drain is None
        (record,) = warnings()
    assert WHAT_WOULD_HAPPEN in record.getMessage()
    assert "Policy(interval=5.0" in record.getMessage()


# on_shutdown


class Runner:
    """Calls `on_shutdown` by some misunderstanding, or as it is meant."""

    def stop(self): ...

    async def stop_later(self, callback): ...

    def register(self, callback): ...

    def register_by_keyword(self, *, callback): ...

    def register_two(self, callback, other): ...

    @staticmethod
    def register_more(*callbacks, reason=None): ...

    def __call__(self, callback): ...


class AsyncRunner:
    async def __call__(self, callback): ...


class Stopper:
    def __call__(self): ...


@functools.wraps(Runner.register)
def wrapper():
    """Its own signature counts, not that of what it wraps."""


RUNNER = Runner()
MEANT = "on_shutdown must be a function that registers a callback"


@pytest.mark.parametrize(
    "wrong",
    [
        RUNNER.stop,
        RUNNER.register_by_keyword,
        RUNNER.register_two,
        Runner.register,
        Stopper(),
        wrapper,
        lambda: None,
        functools.partial(RUNNER.register, print),
    ],
)
def test_an_on_shutdown_that_does_not_accept_the_callback_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=f"{MEANT}.*shutdown.*{re.escape(repr(wrong))}"):
        KeepaliveMiddleware(app, on_shutdown=wrong)


@pytest.mark.parametrize(
    "wrong", [RUNNER.stop_later, AsyncRunner(), functools.partial(RUNNER.stop_later)]
)
def test_a_coroutine_function_as_on_shutdown_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=f"{MEANT}.* a coroutine function, "):
        KeepaliveMiddleware(app, on_shutdown=wrong)


@pytest.mark.parametrize(
    "right",
    [
        RUNNER.register,
        RUNNER.register_more,
        RUNNER,
        [].append,
        print,
        type,  # has no signature
        lambda callback, other=None: None,
        functools.partial(RUNNER.register_two, other=1),
    ],
)
def test_what_accepts_the_callback_is_accepted(right):
    KeepaliveMiddleware(app, on_shutdown=right)


def test_what_is_accepted_is_called_with_the_callback(backend):
    callbacks = []
    play(backend, [(1, b"\n"), (2, END)], on_shutdown=callbacks.append)
    (callback,) = callbacks
    callback()


# Django


def test_django_refuses_it_in_its_middleware_setting():
    """As in django.core.handlers.base, `BaseHandler.load_middleware`."""
    assert not getattr(KeepaliveMiddleware, "sync_capable", True)
    assert not getattr(KeepaliveMiddleware, "async_capable", False)
