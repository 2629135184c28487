"""Apps and servers that fail after the middleware has started the response."""

import gc

from support.early import JSON, SSE_START, OnPurposeError, error_event, raising, slow
from support.endings import X, leaves_at
from support.harness import END, PING, START, start

from keepalive import StopReason


def test_an_error_reaches_the_server_when_the_client_has_been_answered(backend):
    error = OnPurposeError("secret")
    world = slow(backend, [(30, raising(error))], raises=OnPurposeError)
    assert world.timeline == [
        (20, START),
        (20, PING),
        (30, error_event(500, None, "")),
        (30, END),
    ]
    assert (world.ended.reason, world.ended.error) == (StopReason.APP_FAILED, error)
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", None)


def test_an_error_in_time_is_the_servers_alone(backend):
    world = slow(backend, [(19, raising(OnPurposeError()))], raises=OnPurposeError)
    assert world.sent == world.events == []


def test_an_error_after_another_start_reports_that(backend):
    steps = [(30, start(JSON, 502)), (31, b'{"half'), (32, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError)
    summary = error_event(502, "application/json", '{"half')
    assert world.timeline[-2:] == [(32, summary), (32, END)]
    assert (world.ended.reason, world.ended.late_status) == (StopReason.APP_FAILED, 502)


def test_an_error_in_the_midst_of_the_body_cuts_the_stream_as_ever(backend):
    steps = [(30, start()), (31, X), (32, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError)
    assert world.timeline == [(20, START), (20, PING), (31, X)]
    assert world.ended.reason == StopReason.APP_FAILED


def test_an_app_that_returns_without_an_answer_has_one_given(backend, caplog):
    world = slow(backend, [(30, start(status=103))])
    assert world.timeline[-2:] == [(30, error_event(500, None, "")), (30, END)]
    assert (world.ended.reason, world.ended.error) == (StopReason.COMPLETED, None)
    (record,) = caplog.records
    assert (record.getMessage(), record.path) == ("an app has not answered", "/")
    world = slow(backend, [(30, start(JSON, 404)), (31, b"{}")])
    assert world.timeline[-2:] == [(31, error_event(404, "application/json", "{}")), (31, END)]


def test_who_returns_because_its_client_has_left_owes_no_answer(backend, log, caplog):
    world = slow(backend, [(1, log.listen)], prepare=leaves_at(40, log))
    assert world.ended.reason == StopReason.DISCONNECTED
    assert caplog.records == []


def test_a_body_without_a_start_in_time_is_the_servers_to_refuse(backend):
    world = slow(backend, [(10, X), (30, END)])
    assert world.timeline == [(10, X), (30, END)]


def test_a_body_without_a_start_is_an_error_of_the_apps(backend):
    world = slow(backend, [(30, X)], raises=RuntimeError)
    assert "http.response.start must come before" in str(world.ended.error)
    assert world.timeline[-2:] == [(30, error_event(500, None, "")), (30, END)]


def test_a_start_that_makes_no_sense_is_reported_as_a_failure(backend):
    world = slow(backend, [(30, {"type": "http.response.start"}), (31, END)])
    assert world.timeline[-2:] == [(31, error_event(500, None, "")), (31, END)]


def test_a_client_that_does_not_read_keeps_no_error_back(backend):
    def prepare(world):
        world.slow = lambda message: 100 if b"error" in message.get("body", b"") else 0

    world = slow(
        backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare
    )
    assert world.timeline == [(20, START), (20, PING)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.APP_FAILED, 11)


def test_a_server_that_fails_to_take_the_answer_hides_no_error(backend):
    def prepare(world):
        world.failing = lambda message: (
            ValueError("server") if b"error" in message.get("body", b"") else None
        )

    slow(backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare)


def test_a_server_that_fails_to_take_the_start_leaves_the_app_to_its_own(backend, caplog):
    def prepare(world):
        world.failing = lambda message: (
            ValueError("server") if message.get("headers") == SSE_START else None
        )

    own = start(JSON)
    world = slow(backend, [(30, own), (30, b"{}"), (30, END)], prepare=prepare)
    assert world.timeline == [(30, START), (30, b"{}"), (30, END)]
    assert world.events == []
    gc.collect()  # it is then that asyncio tells of an error that nobody has seen
    assert caplog.records == []


def test_a_start_that_the_server_is_slow_to_refuse_leaves_the_app_to_its_own(backend):
    def prepare(world):
        early = {b"cache-control"}
        world.slow = lambda message: 15 if early & {*dict(message.get("headers", ()))} else 0
        world.failing = lambda message: ValueError("server") if world.slow(message) else None

    options = {"start_as": "application/json", "prepare": prepare}
    world = slow(backend, [(30, start(JSON)), (60, b"{}"), (60, END)], **options)
    assert world.timeline == [(35, START), (60, b"{}"), (60, END)]
    assert world.events == []


def test_a_call_that_is_over_while_the_start_is_being_sent_leaves_nothing_behind(backend):
    def prepare(world):
        world.slow = lambda message: 100 if message["type"].endswith("start") else 0

    slow(backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare)


def test_a_call_that_ends_while_the_start_is_being_sent_is_answered_after_it(backend):
    def prepare(world):
        world.slow = lambda message: 0.5 if message["type"].endswith("start") else 0

    steps = [(20.2, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError, prepare=prepare)
    assert world.timeline == [
        (20.5, START),
        (20.5, PING),
        (20.5, error_event(500, None, "")),
        (20.5, END),
    ]
