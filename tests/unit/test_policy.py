"""`Policy` and `routes`: values, patterns, and what they refuse."""

import dataclasses
import math
from decimal import Decimal

import pytest
from support.harness import END, PING, http, play, start

from keepalive import KeepaliveMiddleware, Ping, Policy
from keepalive._routing import MAX_CACHED_ROUTES, MAX_REPORTED_ERRORS, Routes
from keepalive._timing import first_ping_at, next_due, next_poll


async def app(scope, receive, send): ...


INF, NAN = math.inf, math.nan
BAD_POLICIES = [
    *(({"interval": bad}, ValueError, "interval must be above 0 .at least 0.001. and finite")
      for bad in (0, 1e-310, 0.0009, -1, -0.0, NAN, INF, -INF, 10**400)),
    *(({"interval": bad}, TypeError, "interval must be a number of seconds, got")
      for bad in (True, "5", None, Decimal(5), [])),
    *(({"first_ping": bad}, ValueError, "first_ping must be 0 .at once. or above and finite")
      for bad in (-1, NAN, INF)),
    *(({"first_ping": bad}, TypeError, "first_ping must be a number of seconds")
      for bad in (False, "0")),
    ({"pacing": "fast"}, ValueError, "pacing must be \"idle\" or \"steady\", got 'fast'"),
    ({"pacing": None}, ValueError, "pacing must be"),
    ({"anti_buffering": 1}, TypeError, "anti_buffering must be True or False, got 1"),
    ({"ping": b": x\n"}, TypeError, "ping must be a Ping, got b': x"),
    ({"ping": Ping.space()}, ValueError, "ping must not be spaces"),
    ({"media_types": ["a/b"]}, TypeError, "media_types must map media types to pings, got"),
    ({"media_types": {"a/b": " "}}, TypeError, r"'a/b' must be given a Ping, got ' '"),
    ({"media_types": {1: Ping.space()}}, TypeError, "a media type must be str, got 1"),
    ({"media_types": {"text/event-stream": Ping.event()}}, ValueError, "its own field, ping"),
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
    with pytest.raises(ValueError, match=f"^{names} must be on a route that is not None, got"):
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
    assert KeepaliveMiddleware.__init__.__defaults__ == (15.0,)


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


def test_times_are_plain_arithmetic():
    policy = Policy(interval=10, first_ping=4)
    assert first_ping_at(policy, 100) == 104
    assert first_ping_at(Policy(interval=10), 100) == 110
    assert [next_due(policy, 100, last, 0) for last in (80, 94, 99)] == [104, 104, 109]
    assert next_poll(policy, due=104, now=105) == 115


def test_the_steady_grid_is_plain_arithmetic():
    policy = Policy(interval=10, first_ping=4, pacing="steady")
    times = (0, 103.9, 104, 113.7, 113.8, 114, 123, 160)
    assert [next_due(policy, 100, 0, now) for now in times] == [
        104, 104, 104, 104, 114, 114, 114, 154
    ]  # fmt: skip
    # A ping that was sent is not due again: it may have come early, on time or late.
    sent = (94, 103.7, 103.8, 104, 104.2, 113.7, 113.8, 114)
    assert [next_due(policy, 100, last, 104.1) for last in sent] == [104, 104] + [114] * 6
    assert [next_due(policy, 100, last, 114) for last in sent] == [114] * 6 + [124] * 2
    assert next_poll(policy, due=104, now=105) == 114
    tenth = Policy(interval=0.1, pacing="steady")
    due, start = [], 0.7
    for _ in range(1000):
        last = due[-1] if due else start
        due.append(next_due(tenth, start, last, now=last + 0.1))
    assert due == pytest.approx([start + 0.1 * (k + 1) for k in range(1000)])


# routes


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("/", ["/"], ["", "/a", "//"]),
        ("/events", ["/events"], ["/events/", "/eventsx", "/Events", "/a/events"]),
        ("/a.b+c", ["/a.b+c"], ["/axb+c", "/a.bbc"]),
        ("/chat/{thread}", ["/chat/1", "/chat/\u00e4 b"], ["/chat/", "/chat/1/2", "/chat"]),
        ("/{a}-{b}/x", ["/1-2/x"], ["/1/x", "/1-2/y", "/1/2-3/x"]),
        ("/f/{p:path}", ["/f/", "/f/a", "/f/a/b", "/f/a\nb"], ["/f", "/g/a"]),
        ("/f/{p:path}/end", ["/f/a/end", "/f/a/b/end"], ["/f/a", "/f/end"]),
    ],
)
def test_patterns(pattern, yes, no):
    policy = Policy(interval=1)
    routes = Routes(Policy(), {pattern: policy})
    assert [path for path in yes if routes.match(http(path)).policy is not policy] == []
    assert [path for path in no if routes.match(http(path)).policy is policy] == []
    assert routes.single is None


@pytest.mark.parametrize(
    ("path", "root", "matched"),
    [
        ("/api/events", "/api", True),
        ("/api/events", "/api/", True),
        ("/events", "/api", True),
        ("/events", "", True),
        ("/apix/events", "/api", False),
        ("/api/v1/events", "/api", False),
    ],
)
def test_root_path_is_left_out(path, root, matched):
    routes = Routes(Policy(), {"/events": 1.0})
    choice = routes.match(http(path, root_path=root))
    assert (choice.policy.interval == 1.0) is matched


def test_the_root_of_a_mounted_app_is_a_slash():
    routes = Routes(Policy(), {"/": 1.0})
    assert routes.match(http("/api", root_path="/api")).policy.interval == 1.0
    scope = http("/")
    del scope["root_path"]
    assert routes.match(scope).policy.interval == 1.0


def test_the_first_match_wins():
    routes = Routes(Policy(), {"/a/b": 1, "/a/{x}": 2, "/{x:path}": None, "/z": 3})
    choices = [routes.match(http(path)) for path in ("/a/b", "/a/c", "/z")]
    assert [choice and choice.policy.interval for choice in choices] == [1, 2, None]


def test_a_number_is_the_same_policy_with_another_interval():
    default = Policy(ping=Ping.comment(), first_ping=0, pacing="steady")
    routes = Routes(default, {"/a": 2})
    assert routes.match(http("/a")).policy == dataclasses.replace(default, interval=2)
    assert routes.match(http("/b")).policy is default


BAD_ROUTES = [
    ({"/a{b": 1}, ValueError, "braces must be closed and not nested, got '/a{b'"),
    ({"/a}b": 1}, ValueError, "braces must be closed"),
    ({"/{a}{": 1}, ValueError, "braces must be closed"),
    ({"/{{a}}": 1}, ValueError, "braces must be closed"),
    ({"/{a}/{a}": 1}, ValueError, "'a' must be named once, got '/{a}/{a}'"),
    ({"/{}": 1}, ValueError, "must be {name} or {name:path}, got '/{}'"),
    ({"/{a:int}": 1}, ValueError, "must be {name} or {name:path}, got '/{a:int}'"),
    ({"/{1}": 1}, ValueError, "must be {name} or {name:path}"),
    ({"a": 1}, ValueError, "a path must start with '/', got 'a'"),
    ({"": 1}, ValueError, "a path must start with '/', got ''"),
    ({3: 1}, TypeError, "a path must be str, got 3"),
    ({"/a": "5"}, TypeError, r"routes\['/a'\] must be an interval in seconds, .* got '5'"),
    ({"/a": True}, TypeError, r"routes\['/a'\] must be an interval in seconds"),
    ({"/a": 0}, ValueError, r"routes\['/a'\]: interval must be above 0"),
    ({"/a": NAN}, ValueError, r"routes\['/a'\]: interval must be above 0"),
    ({"/a": {"drain": -1}}, ValueError, r"routes\['/a'\]: drain must be 0 .* got -1"),
    ({"/a": {"intervall": 1}}, TypeError, r"\['/a'\] has no .* the nearest is 'interval'"),
    ({"/a": {3: 1}}, TypeError, r"routes\['/a'\] has no option 3; the nearest is"),
    ({"/a": {"abort": None}}, TypeError, r"\['/a'\]: 'abort' is an option of Keepalive"),
    ({"/a": {"media_types": 3}}, TypeError, r"routes\['/a'\]: media_types must map"),
    (
        {"/a": {"farewell": Ping.comment()}},
        ValueError,
        r"routes\['/a'\]: farewell needs drain, max_lifetime or max_silence",
    ),
    (
        {"/a": {"start_as": "text/event-stream"}},
        ValueError,
        r"routes\['/a'\]: start_as needs start_after",
    ),
    (["/a"], TypeError, r"routes must be a mapping, a callable or None, got \['/a'\]"),
    ("/a", TypeError, "routes must be a mapping"),
]


@pytest.mark.parametrize(("routes", "error", "message"), BAD_ROUTES)
def test_bad_routes_are_refused(routes, error, message):
    with pytest.raises(error, match=message):
        KeepaliveMiddleware(app, routes=routes)


def test_an_empty_mapping_matches_nothing():
    assert Routes(Policy(), {}).match(http("/")).policy == Policy()
    only = Routes(Policy(), {}).single
    assert only == Routes(Policy(), None).single
    assert (only.policy, only.pattern, only.is_plain) == (Policy(), "*", True)


def test_routes_end_to_end(backend):
    routes = {
        "/fast": 4.0,
        "/chat/{id}": Policy(interval=5, ping=Ping.comment()),
        "/off": None,
    }
    for path, expected in {
        "/fast": [(4, PING), (8, PING)],
        "/chat/7": [(5, b": ping\n"), (10, b": ping\n")],
        "/off": [],
        "/else": [(9, PING)],
    }.items():
        world = play(backend, [(11, END)], scope=http(path), routes=routes, interval=9)
        assert world.timeline[1:-1] == expected, path


def test_a_callable_looks_at_anything(backend):
    def routes(scope):
        return {b"curl": None, b"sdk": Policy(ping=Ping.comment()), b"fast": 4}.get(
            dict(scope["headers"]).get(b"user-agent"), 9
        )

    for agent, expected in {
        b"curl": [],
        b"sdk": [],
        b"fast": [(4, PING), (8, PING)],
        b"other": [(9, PING)],
    }.items():
        scope = http(headers=[(b"user-agent", agent)])
        world = play(backend, [(11, END)], scope=scope, routes=routes)
        assert world.timeline[1:-1] == expected, agent


def test_what_follows_from_a_callables_value_is_created_once():
    values = [4, Policy(interval=4), None, {"interval": 4}]
    routes = Routes(Policy(drain=5), lambda scope: values[scope["number"]])
    first, second = ([routes.match({"number": n}) for n in range(4)] for _ in range(2))
    assert [a is b for a, b in zip(first, second, strict=True)] == [True] * 4
    assert [route and route.policy.interval for route in first] == [4, 4, None, 4]
    assert [route and route.policy.drain for route in first] == [5, None, None, 5]


def test_a_callables_mapping_may_be_changed():
    options = {"interval": 4}
    routes = Routes(Policy(), lambda scope: options)
    assert routes.match({}).policy.interval == 4
    options["interval"] = 5
    assert routes.match({}).policy.interval == 5


# routes inherit


COMPLETE = {"drain": 10, "farewell": Ping.comment("bye"), "start_after": 20, "first_ping": 0}


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        (2, {"interval": 2}),
        ({}, {}),
        ({"interval": 2}, {"interval": 2}),
        ({"max_lifetime": 60, "interval": 3}, {"max_lifetime": 60, "interval": 3}),
        ({"interval": 3, "max_lifetime": 60}, {"max_lifetime": 60, "interval": 3}),
        ({"first_ping": None}, {"first_ping": None}),
        ({"media_types": {"a/b": Ping.space()}}, {"media_types": {"a/b": Ping.space()}}),
        ({"drain": None, "max_lifetime": 9}, {"drain": None, "max_lifetime": 9}),
        ({"drain": None, "max_silence": 9}, {"drain": None, "max_silence": 9}),
    ],
)
def test_a_route_inherits_what_it_does_not_change(value, changed):
    routes = Routes(Policy(**COMPLETE), {"/a": value})
    assert routes.match(http("/a")).policy == Policy(**COMPLETE | changed)


def test_a_policy_inherits_nothing():
    routes = Routes(Policy(**COMPLETE), {"/a": Policy(interval=2)})
    assert routes.match(http("/a")).policy == Policy(interval=2)


def test_what_an_inherited_option_needs_may_be_switched_off():
    default = Policy(**COMPLETE, media_types={"a/b": Ping.space()}, start_as="a/b")
    routes = {"/a": {"drain": None}, "/b": {"start_after": None}, "/c": {"media_types": {}}}
    found = {path: Routes(default, routes).match(http(path)).policy for path in routes}
    assert (found["/a"].farewell, found["/a"].start_as) == (None, "a/b")
    assert (found["/b"].farewell, found["/b"].start_as) == (COMPLETE["farewell"], None)
    assert (found["/c"].start_after, found["/c"].start_as) == (20, None)


@pytest.mark.parametrize("bad", [{"drain": -1}, {"intervall": 1}, "x", [1], {1}])
def test_an_invalid_value_of_a_callable_is_logged_once(backend, caplog, bad):
    middleware = []

    def wrap(app, **options):
        middleware[:] = middleware or [KeepaliveMiddleware(app, **options)]
        middleware[0].app = app
        return middleware[0]

    for _ in range(3):
        options = {"interval": 9, "routes": lambda scope: bad, "wrap": wrap}
        assert play(backend, [(11, END)], **options).pings == [9]
    (record,) = caplog.records
    assert record.message == "the routes callable failed"
    assert "routes" in str(record.exc_info[1])


def test_a_callable_may_return_any_number_of_values():
    routes = Routes(Policy(), lambda scope: scope["number"])
    for number in range(1, 10 * MAX_CACHED_ROUTES):
        assert routes.match({"number": number}).policy.interval == number
        assert len(routes._cached) <= MAX_CACHED_ROUTES


@pytest.mark.parametrize("bad", [0, "x", True, -1, [], ZeroDivisionError])
def test_a_callable_that_fails_costs_only_its_route(backend, caplog, bad):
    def routes(scope):
        if bad is ZeroDivisionError:
            raise ZeroDivisionError
        return bad

    world = play(backend, [(11, END)], interval=9, routes=routes, scope=http("/p"))
    assert world.pings == [9]
    (record,) = caplog.records
    assert (record.message, record.path) == ("the routes callable failed", "/p")


# options


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
def test_what_is_no_callable_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        KeepaliveMiddleware(**{"app": app, **options})


def test_headers_that_are_added(backend):
    added = [(b"x-accel-buffering", b"no"), (b"cache-control", b"no-cache, no-transform")]
    own = [(b"content-type", b"text/event-stream")]
    assert play(backend, [(1, END)], head=start(own)).headers == own + added
    assert play(backend, [(1, END)], head=start(own), anti_buffering=False).headers == own
    for mine in [(b"X-Accel-Buffering", b"yes"), (b"Cache-Control", b"max-age=1")]:
        headers = [*own, mine]
        world = play(backend, [(1, END)], head=start(headers))
        rest = [pair for pair in added if pair[0] != mine[0].lower()]
        assert world.headers == headers + rest
        assert headers == [*own, mine]


def test_a_policy_for_every_path_may_stand_beside_bounds():
    KeepaliveMiddleware(print, drain=5, routes={"/{path:path}": Policy(drain=1)})


def test_errors_of_a_callable_are_not_remembered_without_end(caplog):
    routes = Routes(Policy(), lambda scope: f"value {scope['number']}")
    for number in range(10 * MAX_REPORTED_ERRORS):
        assert routes.match({"number": number}) is routes.default
    assert len(caplog.records) == len(routes._reported) == MAX_REPORTED_ERRORS
