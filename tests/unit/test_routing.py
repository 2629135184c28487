"""`routes`: which value each path gets, what values inherit, and what is rejected."""

import dataclasses
import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.harness import END, PING, http, play

from keepalive import KeepaliveMiddleware, Ping, Policy
from keepalive._routing import MAX_CACHED_ROUTES, MAX_REPORTED_ERRORS, Routes


async def app(scope, receive, send): ...


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
def test_root_path_is_ignored(path, root, matched):
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
    ({"/{a}/{a}": 1}, ValueError, "the parameter 'a' must be unique, got '/{a}/{a}'"),
    ({"/{}": 1}, ValueError, "must be {name} or {name:path}, got '/{}'"),
    ({"/{a:int}": 1}, ValueError, "must be {name} or {name:path}, got '/{a:int}'"),
    ({"/{1}": 1}, ValueError, "must be {name} or {name:path}"),
    ({"a": 1}, ValueError, "a path must start with '/', got 'a'"),
    ({"": 1}, ValueError, "a path must start with '/', got ''"),
    ({3: 1}, TypeError, "a path must be str, got 3"),
    ({"/a": "5"}, TypeError, r"routes\['/a'\] must be an interval in seconds, .* got '5'"),
    ({"/a": True}, TypeError, r"routes\['/a'\] must be an interval in seconds"),
    ({"/a": 0}, ValueError, r"routes\['/a'\]: interval must be above 0"),
    ({"/a": math.nan}, ValueError, r"routes\['/a'\]: interval must be above 0"),
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


def test_errors_of_a_callable_are_not_remembered_without_end(caplog):
    routes = Routes(Policy(), lambda scope: f"value {scope['number']}")
    for number in range(10 * MAX_REPORTED_ERRORS):
        assert routes.match({"number": number}) is routes.default
    assert len(caplog.records) == len(routes._reported) == MAX_REPORTED_ERRORS


# patterns, compared with a plain implementation


PIECES = ["{}", "{:path}", "-", "/", "a", "/a", "-a", ""]


def pattern_of(pieces):
    """Return a pattern whose parameters have names of their own."""
    text = "/"
    for number, piece in enumerate(pieces):
        text += piece.replace("{", f"{{p{number}")
    return text


def matches(pattern, path):
    """Whether a path matches, each end of each parameter tried."""
    parts = re.split(r"(\{[^}]*\})", pattern)
    some = {part: r"[\s\S]*" if ":path" in part else r"[^/]+" for part in parts[1::2]}
    return bool(re.fullmatch("".join(some.get(x) or re.escape(x) for x in parts), path))


@given(st.lists(st.sampled_from(PIECES), max_size=7), st.text("a-/b", max_size=10))
def test_a_pattern_matches_what_it_would_with_every_end_tried(pieces, path):
    pattern, path = pattern_of(pieces), f"/{path}"
    assume(not re.search(r":path\}[^/]*\{", pattern))  # rejected, see below
    chosen = Routes(Policy(), {pattern: 1.0}).match({"path": path})
    assert (chosen.pattern == pattern) == matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{a}-{b}-{c}", "/" + "-" * 4000 + "/"),  # 90 seconds, with every end tried
        ("/{a}-{b}/c", "/" + "-" * 400_000),
        ("/u/{p:path}/b/{q:path}/c", "/u/" + "/b/" * 100_000),
    ],
)
def test_no_path_takes_long(pattern, path):
    assert Routes(Policy(), {pattern: 1.0}).match({"path": path}).pattern == "*"


@pytest.mark.parametrize(
    "pattern", ["/{p:path}.{ext}", "/{p:path}{q:path}", "/a/{p:path}-x-{q}/b"]
)
def test_a_path_with_a_parameter_after_it_in_its_segment_is_rejected(pattern):
    """Matching it would take quadratic time."""
    with pytest.raises(
        ValueError, match="must be the last parameter in a segment, got"
    ) as info:
        Routes(Policy(), {pattern: 1.0})
    assert repr(pattern) in str(info.value)


@pytest.mark.parametrize(
    ("pattern", "correct"),
    [
        ("/files/*", "/files/{rest:path}"),
        ("/files/**", "/files/{rest:path}"),
        ("/users/<name>", "/users/{name}"),
        ("/users/<int:number>/x", "/users/{number}/x"),
        ("/users/:name/x", "/users/{name}/x"),
    ],
)
def test_the_syntax_of_other_frameworks_is_rejected_with_the_correct_form(pattern, correct):
    with pytest.raises(ValueError, match="a pattern must be written as") as info:
        Routes(Policy(), {pattern: 1.0})
    assert repr(correct) in str(info.value)
    assert repr(pattern) in str(info.value)
    Routes(Policy(), {correct: 1.0})
