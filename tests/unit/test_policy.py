"""`Policy`: its options, their defaults, and what it rejects."""

import dataclasses
import inspect
import math
from decimal import Decimal

import pytest

from keepalive import KeepaliveMiddleware, Ping, Policy


async def app(scope, receive, send): ...


INF, NAN = math.inf, math.nan


BAD_POLICIES = [
    *(({"interval": bad}, ValueError, "interval must be above 0 .at least 0.001. and finite")
      for bad in (0, 1e-310, 0.0009, -1, -0.0, NAN, INF, -INF, 10**400)),
    *(({"interval": bad}, TypeError, "interval must be a number of seconds, got")
      for bad in (True, "5", None, Decimal(5), [])),
    *(({"first_ping": bad}, ValueError, "first_ping must be 0 .immediately. or above and fin")
      for bad in (-1, NAN, INF)),
    *(({"first_ping": bad}, TypeError, "first_ping must be a number of seconds")
      for bad in (False, "0")),
    ({"pacing": "fast"}, ValueError, "pacing must be \"idle\" or \"steady\", got 'fast'"),
    ({"pacing": None}, ValueError, "pacing must be"),
    ({"anti_buffering": 1}, TypeError, "anti_buffering must be True or False, got 1"),
    ({"ping": b": x\n"}, TypeError, "ping must be a Ping, got b': x"),
    ({"ping": Ping.space()}, ValueError, "ping must not be spaces"),
    ({"media_types": ["a/b"]}, TypeError, "media_types must map media types to pings, got"),
    ({"media_types": {"a/b": " "}}, TypeError, r"the value of 'a/b' must be a Ping, got ' '"),
    ({"media_types": {1: Ping.space()}}, TypeError, "a media type must be str, got 1"),
    ({"media_types": {"text/event-stream": Ping.event()}}, ValueError, "configured by ping"),
    *(({"media_types": {bad: Ping.space()}}, ValueError, "a media type must be type/sub")
      for bad in ("ndjson", "a/*", "*/*", "a/b; q=1", "", "a/b/c")),
    *(({name: bad}, ValueError, f"{name} must be above 0 .at least 0.001. and finite .seconds")
      for name in ("max_lifetime", "max_silence", "send_timeout")
      for bad in (0, 0.0009, -1, NAN, INF)),
    *(({"drain": bad}, ValueError, "drain must be 0 .not at all. or above and finite")
      for bad in (-1, -0.001, NAN, INF, -INF)),
    *(({name: bad}, TypeError, f"{name} must be a number of seconds, got")
      for name in ("max_lifetime", "max_silence", "drain", "send_timeout")
      for bad in ("5", True, [])),
    ({"farewell": b": x\n", "drain": 1}, TypeError, "farewell must be a Ping, got b': x"),
    ({"farewell": Ping.space(), "drain": 1}, ValueError, "farewell must not be spaces"),
    *(({"farewell": Ping.event("bye"), **more}, ValueError,
       "farewell needs drain, max_lifetime or max_silence: without them nothing ends a stream")
      for more in ({}, {"send_timeout": 1})),
    *(({"interval": None, name: 1}, TypeError, "got None; to exclude a path, use None")
      for name in ("drain", "send_timeout")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "message"), BAD_POLICIES)
def test_bad_input_is_refused_by_policy_and_middleware_alike(options, error, message):
    with pytest.raises(error, match=message):
        Policy(**options)
    with pytest.raises(error, match=message):
        KeepaliveMiddleware(app, **options)


def test_bounds_are_values_too():
    bye = Ping.event("bye")
    policy = Policy(max_lifetime=60, drain=0, farewell=bye, send_timeout=5)
    assert (policy.max_lifetime, policy.drain, policy.send_timeout) == (60.0, 0.0, 5.0)
    assert policy.farewell is bye
    assert {type(policy.max_lifetime), type(policy.drain)} == {float}
    assert (
        Policy(farewell=bye, max_lifetime=1).farewell is Policy(farewell=bye, drain=1).farewell
    )


@pytest.mark.parametrize(
    ("routes", "limits", "names"),
    [
        ({"/{all:path}": None}, {"drain": 1}, "drain"),
        ({"/a": None, "/{all:path}": None}, {"send_timeout": 1}, "send_timeout"),
        ({"/a": Policy(), "/{x:path}": None}, {"drain": 1, "max_lifetime": 9},
         "max_lifetime and drain"),
    ],
)  # fmt: skip
def test_limits_where_every_route_is_none_are_refused(routes, limits, names):
    with pytest.raises(
        ValueError, match=f"^{names} must apply to a route that is not None, got"
    ):
        KeepaliveMiddleware(app, routes=routes, **limits)


@pytest.mark.parametrize(
    ("routes", "limits"),
    [
        ({"/a": None}, {"drain": 1}),
        ({"/a": 5.0, "/{all:path}": None}, {"drain": 1}),  # an interval: the limits are its
        ({"/{all:path}": None}, {}),
        ({"/{all:path}": None}, {"interval": 5.0}),
        ({"/{name}": None}, {"send_timeout": 1}),
        ({"/a/{all:path}": None}, {"send_timeout": 1}),
    ],
)
def test_limits_that_some_path_may_get_are_taken(routes, limits):
    KeepaliveMiddleware(app, routes=routes, **limits)


def test_defaults():
    policy = Policy()
    assert (policy.max_lifetime, policy.max_silence, policy.drain) == (None, None, None)
    assert (policy.farewell, policy.send_timeout) == (None, None)
    assert policy.interval == 15.0
    assert (policy.pacing, policy.first_ping, policy.anti_buffering) == ("idle", None, True)
    assert policy.ping is None
    assert policy.media_types == {}
    assert inspect.signature(KeepaliveMiddleware).parameters["interval"].default == 15.0


def test_a_policy_is_an_immutable_value():
    media_types = {"A/B ": Ping.space()}
    policy = Policy(interval=3, media_types=media_types)
    media_types.clear()
    assert policy.media_types == {"a/b": Ping.space()}
    assert policy == Policy(interval=3.0, media_types={"a/b": Ping.space()})
    assert hash(policy) == hash(Policy(interval=3.0, media_types={"a/b": Ping.space()}))
    assert isinstance(policy.interval, float)
    assert [*dataclasses.asdict(policy)] == [
        "interval", "pacing", "first_ping", "ping", "media_types", "anti_buffering",
        "max_lifetime", "max_silence", "drain", "farewell", "send_timeout", "start_after",
        "start_as",
    ]  # fmt: skip
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.interval = 1.0
    with pytest.raises(TypeError):
        Policy(3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start_after": 0}, "start_after must be above 0"),
        ({"start_after": "1"}, "start_after must be a number"),
        ({"start_as": "text/event-stream"}, "start_as needs start_after"),
        ({"start_after": 1, "start_as": "text/html"}, "start_as must be text/event-stream, "),
        (
            {"start_after": 1, "start_as": b"text/event-stream"},
            "start_as must be a media type",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Policy(**options)


def test_a_start_that_nobody_would_get_is_refused():
    with pytest.raises(ValueError, match="start_after must apply to a route that is not None"):
        KeepaliveMiddleware(print, start_after=5, routes={"/{path:path}": None})


def test_a_media_type_is_read_as_people_write_it():
    policy = Policy(start_after=1, start_as=" Application/JSON ")
    assert policy.start_as == "application/json"


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        ("intervall", "interval"), ("ping_interval", "interval"),
        ("buffering", "anti_buffering"), ("on_stop", "on_shutdown"),
        ("route", "routes"), ("q", "ping"),
    ],
)  # fmt: skip
def test_an_unknown_option_names_the_nearest_right_one(option, nearest):
    with pytest.raises(
        TypeError, match=f"no option '{option}'; the nearest is '\\w+'"
    ) as error:
        KeepaliveMiddleware(app, **{option: 1})
    if option != "q":
        assert str(error.value).endswith(repr(nearest))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"abort": object()}, "abort must be an AbortSignal, a callable or None, got <object"),
        ({"on_shutdown": 5}, "on_shutdown must be callable or None, got 5"),
        ({"observer": "x"}, "observer must be callable or None, got 'x'"),
        ({"app": None}, "app must be an ASGI app, a callable, got None"),
    ],
)
def test_what_is_not_callable_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        KeepaliveMiddleware(**{"app": app, **options})


def test_a_policy_for_every_path_is_allowed_with_limits():
    KeepaliveMiddleware(print, drain=5, routes={"/{path:path}": Policy(drain=1)})
