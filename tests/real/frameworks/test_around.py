"""Other projects' parts around the middleware and inside it.

Streams are kept alive, the app has the context that the part makes for it, and no end of a
stream is reported as an error.
"""

import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import IncompleteRead

import pytest
from real.compatibility import BOOKS
from real.frameworks.measuring import taken
from real.frameworks.reading import Reading, serving
from real.http_clients import complaints, parsed
from real.parts import missing, need

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK, TABLE = BOOKS["frameworks"], "around"
COLUMNS = {"kept": "around KeepaliveMiddleware", "outside": "inside it"}
ENDED = {"kept": "ended", "outside": "ended-outside"}
AS_WITHOUT = "kept alive; context and end unchanged"


@dataclass(frozen=True)
class Part:
    """Another project's part; its app is in the module of that name."""

    name: str
    title: str
    used: tuple[str, ...]
    spans: int = 0
    """Those of one request."""

    @property
    def needed(self):
        return (*self.used, "starlette", "uvicorn")


PARTS = [
    Part("opentelemetry", "OpenTelemetry", ("opentelemetry-instrumentation-asgi",), 1),
    Part("sentry", "Sentry", ("sentry-sdk",), 1),
    Part("ddtrace", "ddtrace", ("ddtrace",), 1),
    Part(
        "prometheus",
        "prometheus-fastapi-instrumentator",
        ("prometheus-fastapi-instrumentator", "fastapi"),
    ),
    Part("correlation_id", "asgi-correlation-id", ("asgi-correlation-id",)),
    Part("starlette_context", "starlette-context", ("starlette-context",)),
    Part("base_http", "Starlette's `BaseHTTPMiddleware`", ("starlette",)),
    Part("proxy_fix", "hypercorn's `ProxyFixMiddleware`", ("hypercorn",)),
]

each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
each_side = pytest.mark.parametrize("side", COLUMNS)


def headers(token):
    """Return what tells each of the parts the request's id: its token."""
    return {
        "X-Request-ID": token,
        "X-Forwarded-For": token,
        "traceparent": f"00-{token}-{token[:16]}-01",
        "sentry-trace": f"{token}-{token[:16]}-1",
    }


def opened(server, variant, path="/events"):
    token = uuid.uuid4().hex
    return closing(Reading(server, variant, path, headers(token), token=token))


def whole(part, server, variant):
    """Read a stream to its end, with pings in each silence if there are any."""
    with opened(server, variant) as made:
        for _ in range(2):
            if variant != "plain":
                made.read_pings(2)
            server.open(made.token)
            made.read_item()
        server.open(made.token)
        made.read()
        return over(part, server, made)


def left(part, server, variant):
    """Leave a stream in its silence."""
    with opened(server, variant) as made:
        server.open(made.token)
        made.read_item()
        server.wait(made.token, "silent", 2)
    return over(part, server, made)


def ended(part, server, variant):
    """Read until the middleware ends a stream."""
    with opened(server, variant) as made:
        server.open(made.token)
        made.read()
        return over(part, server, made)


def over(part, server, made):
    server.wait(made.token, "over")
    server.wait(made.token, "call over")
    if part.spans:
        server.wait(made.token, "span", part.spans)
    return taken(made)


def measure(part, server):
    """Run all cases of a part at the same time."""
    aspects = {("whole", variant): whole for variant in ("plain", *COLUMNS)}
    aspects |= {("left", variant): left for variant in ("plain", *COLUMNS)}
    aspects |= {("ended", variant): ended for variant in ENDED.values()}
    with ThreadPoolExecutor() as pool:
        return {key: pool.submit(take, part, server, key[1]) for key, take in aspects.items()}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    here = [part.name for part in PARTS if not missing(*part.needed)]
    with serving(here, tmp_path_factory.mktemp("around")) as running:
        yield running


@pytest.fixture(scope="module")
def measured(servers):
    parts = [part for part in PARTS if part.name in servers]
    with ThreadPoolExecutor(2) as pool:
        yield {part: pool.submit(measure, part, servers[part.name]) for part in parts}


@pytest.fixture
def take(part, measured):
    need(*part.needed)
    found = measured[part].result()
    return lambda *key: found[key].result()


def ends(one):
    """Return how the app and its call have ended, and what was reported of it."""
    return [
        (fact["kind"], fact.get("how")) for fact in one.of("over", "call over", "reported")
    ]


def check_context(one):
    """Check that the app was always in the context of its own request."""
    contexts = one.of("context")
    assert contexts
    assert {fact["found"] for fact in contexts} == {fact["token"] for fact in contexts}


@each_side
@each_part
def test_streams_are_kept_alive_in_their_context(part, side, take):
    plain, kept = take("whole", "plain"), take("whole", side)
    assert kept.pings >= 4
    assert kept.app_bytes == plain.body == b"data: one\n\ndata: two\n\n"
    for one in (plain, kept):
        check_context(one)
        assert len(one.of("span")) == part.spans
        assert not one.of("reported")
    assert ends(kept) == ends(plain)
    (end,) = kept.of("StreamEnded")
    assert (end["reason"], end["pings"]) == ("completed", kept.pings)
    if not part.spans:  # a report has no token of its own request there
        assert not kept.of("reported")
    BOOK.hold(TABLE, part.title, COLUMNS[side], AS_WITHOUT, *part.used)


@each_side
@each_part
def test_a_client_that_leaves_is_no_error(part, side, take):
    plain, kept = take("left", "plain"), take("left", side)
    assert ends(kept) == ends(plain)
    check_context(kept)
    assert [end["reason"] for end in kept.of("StreamEnded")] == ["disconnected"]
    assert not kept.of("reported")


@each_side
@each_part
def test_an_end_by_the_middleware_is_no_error(part, side, take):
    found = take("ended", ENDED[side])
    assert [end["reason"] for end in found.of("StreamEnded")] == ["max_lifetime"]
    assert parsed(found.body)[-1][0] == "stopping"
    assert ends(found) == ends(take("left", "plain"))
    check_context(found)
    assert not found.of("reported")


@each_part
def test_nothing_is_logged(part, take, servers):
    take("whole", "kept")
    server = servers[part.name]
    assert complaints(server.process.log) == []
    assert server.of("none", "reported") == server.of("none", "warning") == []


@pytest.mark.parametrize("name", ["opentelemetry", "sentry", "ddtrace"])
def test_an_app_that_fails_is_reported(name, tmp_path):
    """The twin: what the tests above would find."""
    part = next(part for part in PARTS if part.name == name)
    need(*part.needed)
    with serving([name], tmp_path) as servers:
        for side in COLUMNS:
            with opened(servers[name], side, "/fails") as made:
                with pytest.raises(IncompleteRead):
                    made.read()
                servers[name].wait(made.token, "reported")
        assert complaints(servers[name].process.log)


def test_streams_are_counted_once_by_prometheus(servers):
    part = next(part for part in PARTS if part.name == "prometheus")
    need(*part.needed)
    server = servers[part.name]
    whole(part, server, "kept")
    with closing(Reading(server, "kept", "/metrics")) as made:
        made.read()
    counts = [line for line in made.body.decode().splitlines() if "_total{" in line]
    (line,) = (line for line in counts if 'handler="/events"' in line)
    assert 'status="2xx"' in line


def test_the_table_has_a_cell_for_each_test_and_no_other():
    assert BOOK.cells(TABLE) == {
        (part.title, column) for part in PARTS for column in COLUMNS.values()
    }
