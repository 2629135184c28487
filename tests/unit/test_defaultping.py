"""The ping of a policy that has none is chosen by the request, and the farewell with it."""

import itertools
import json
from pathlib import Path

import pytest
from support.endings import X
from support.harness import END, PING, SSE, START, http, play, start
from support.internals import is_event

from keepalive import AbortController, Ping, Policy, StreamStarted
from keepalive._defaultping import DefaultPing, choose_ping

COMMENT = b": ping\n"
BLANK_LINE = b"\n"
ANTHROPIC = b'event: ping\ndata: {"type": "ping"}\n\n'

STREAM = ("accept", "text/event-stream")
MCP = ("accept", "application/json, text/event-stream")
PRAGMA = ("pragma", "no-cache")
SDK_HEADERS = [
    ("mcp-protocol-version", "2025-06-18"),
    ("x-stainless-lang", "python"),
    ("x-graphql-event-stream-token", "c0ffee"),
]
FETCH_HEADERS = [("sec-fetch-mode", "cors"), ("accept-language", "*")]
VERCEL = [*SSE, (b"X-Vercel-AI-UI-Message-Stream", b"v1")]
GOOGLE_PATH = "/v1beta/models/gemini:streamGenerateContent"


def request(method, *headers, path="/"):
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    return http(path, method=method, headers=encoded)


RULES = [
    # 1. Anthropic
    (request("POST", ("anthropic-version", "2023-06-01")), ANTHROPIC),
    (request("POST", ("anthropic-version", "2023-06-01"), SDK_HEADERS[1]), ANTHROPIC),
    (request("GET", ("anthropic-version", "2023-06-01"), STREAM, PRAGMA), ANTHROPIC),
    (request("POST", ("anthropic-version", "1"), ("x-goog-api-client", "x")), ANTHROPIC),
    # 2. Google
    (request("POST", ("x-goog-api-client", "google-genai-sdk/1.0")), BLANK_LINE),
    (request("POST", path=GOOGLE_PATH), BLANK_LINE),
    (request("GET", path=GOOGLE_PATH), BLANK_LINE),
    (request("POST", path="/v1beta/models/gemini:generateContent"), COMMENT),
    # 3. EventSource
    (request("GET", STREAM, PRAGMA, *FETCH_HEADERS), PING),
    (request("GET", STREAM, ("cache-control", "no-cache"), *FETCH_HEADERS), COMMENT),
    (request("GET", ("accept", "*/*"), PRAGMA, *FETCH_HEADERS), COMMENT),
    # 4. Other GETs
    (request("GET"), PING),
    (request("GET", STREAM), PING),
    (request("GET", ("accept", "*/*"), ("user-agent", "curl/8.5.0")), PING),
    (request("GET", ("accept", "text/html,*/*"), *FETCH_HEADERS), PING),
    *((request("GET", STREAM, header), COMMENT) for header in FETCH_HEADERS),
    *((request("GET", STREAM, PRAGMA, header), COMMENT) for header in SDK_HEADERS),
    (request("GET", MCP), COMMENT),
    (request("GET", MCP, PRAGMA), COMMENT),
    # 5. Anything else
    (request("POST"), COMMENT),
    (request("POST", STREAM), COMMENT),
    (request("POST", STREAM, PRAGMA), COMMENT),
    (request("PUT", STREAM, PRAGMA), COMMENT),
    (request("get", STREAM, PRAGMA), COMMENT),
]


@pytest.mark.parametrize(("scope", "ping"), RULES)
def test_the_request_chooses_the_ping(scope, ping):
    assert choose_ping(scope, SSE).value.payload == ping


# Requests of real clients, recorded by `python tests/real/clients/record_requests.py`

RECORDED = json.loads((Path(__file__).parents[1] / "recorded_requests.json").read_text())
FETCHES = (
    "fetch",
    "undici, ",
    "joinStream",
    "eventsource-parser",
    "graphql: ",
    "mcp: streamable HTTP",
    "mcp: JavaScript, streamable HTTP",
)
"""Parts of the names of clients whose GETs are neither an `EventSource`'s nor a script's."""


def expected_ping(record):
    """Return the ping that suits a client, by what the client is and not by its headers."""
    client = record["client"]
    if client.startswith("anthropic: "):
        return ANTHROPIC
    if client.startswith("google: "):
        return BLANK_LINE
    is_fetch = any(part in client for part in FETCHES)
    return COMMENT if record["method"] != "GET" or is_fetch else PING


@pytest.mark.parametrize("record", RECORDED, ids=lambda it: f"{it['client']} {it['method']}")
def test_recorded_requests_choose_the_ping_of_their_client(record):
    headers = [(name.encode(), value.encode()) for name, value in record["headers"]]
    path = record["path"].partition("?")[0]
    scope = http(path, method=record["method"], headers=headers)
    assert choose_ping(scope, SSE).value.payload == expected_ping(record)


def test_the_recording_has_clients_of_every_rule():
    pings = [expected_ping(record) for record in RECORDED]
    assert {*pings} == {ANTHROPIC, BLANK_LINE, PING, COMMENT}
    headers = {name for record in RECORDED for name, _ in record["headers"]}
    assert headers >= {"sec-fetch-mode", "accept-language", "x-graphql-event-stream-token"}
    names = " ".join(record["client"] for record in RECORDED)
    for client in (
        "Chromium",
        "Firefox",
        "WebKit",
        "openai",
        "LangChain",
        "LiteLLM",
        "Mistral",
        "langgraph",
        "mcp",
        "Vercel",
        "graphql",
        "gradio",
        "curl",
        "TestClient",
    ):
        assert client in names  # fmt: skip


def test_names_and_values_are_compared_in_any_case():
    pairs = [(b"ACCEPT", b"Text/Event-Stream"), (b"PrAgMa", b"No-Cache")]
    fetched = [*pairs, (b"Sec-Fetch-Mode", b"CORS")]
    assert choose_ping(http(headers=fetched), SSE) is DefaultPing.EVENT
    assert choose_ping(http(headers=fetched[::2]), SSE) is DefaultPing.COMMENT


def test_repeated_headers_are_joined():
    accepts = [(b"accept", b"text/event-stream"), (b"accept", b"application/json")]
    for headers in itertools.permutations([*accepts, (b"pragma", b"no-cache")]):
        assert choose_ping(http(headers=[*headers]), SSE) is DefaultPing.COMMENT


def test_a_response_of_the_vercel_ai_sdk_is_read_by_fetch():
    scope = request("GET", STREAM)
    assert choose_ping(scope, VERCEL) is DefaultPing.COMMENT
    assert choose_ping(scope, SSE) is DefaultPing.EVENT


@pytest.mark.parametrize(
    "headers",
    [iter([(b"accept", b"text/event-stream")]), [None], [(b"a",)], None, 1],
)
def test_headers_that_no_server_sends_choose_a_comment(headers):
    assert choose_ping(http(headers=headers), SSE) is DefaultPing.COMMENT
    if hasattr(headers, "__next__"):
        assert next(headers) == (b"accept", b"text/event-stream")  # it is still the app's


def test_a_scope_without_method_and_path_chooses_a_comment():
    assert choose_ping({"type": "http"}, SSE) is DefaultPing.COMMENT


# In streams


@pytest.mark.parametrize(("scope", "ping"), RULES)
def test_a_stream_is_sent_the_chosen_ping(scope, ping):
    world = play("asyncio", [(20, END)], scope=scope)
    assert world.timeline == [(0, START), (15, ping), (20, END)]
    (event,) = [event for event in world.events if isinstance(event, StreamStarted)]
    assert event.ping.payload == ping
    assert event.policy.ping is None


def test_a_ping_of_the_policy_is_always_that_one(backend):
    for scope, _ in RULES[::5]:
        world = play(backend, [(20, END)], scope=scope, ping=Ping.event("tick"))
        assert world.timeline[1] == (15, b"event: tick\ndata: \n\n")


def test_a_route_may_return_to_the_choice(backend):
    options = {"ping": Ping.event("tick"), "routes": {"/a": {"ping": None}}}
    world = play(backend, [(20, END)], scope=request("POST", path="/a"), **options)
    assert world.timeline == [(0, START), (15, COMMENT), (20, END)]


def test_a_comment_is_inserted_within_an_event_and_an_event_is_not(backend):
    steps = [(1, b"data: x\n"), (20, b"\n"), (21, END)]
    commented = play(backend, steps, scope=request("POST"))
    assert commented.timeline[2] == (16, COMMENT)
    listened_for = play(backend, steps, scope=request("GET"))
    assert listened_for.timeline[2:4] == [(20, b"\n"), (20, PING)]


def test_a_blank_line_waits_for_the_end_of_an_event(backend):
    steps = [(1, b"data: x\n"), (20, b"\n"), (21, END)]
    world = play(backend, steps, scope=request("POST", path=GOOGLE_PATH))
    assert world.timeline[2:4] == [(20, b"\n"), (20, BLANK_LINE)]


def test_the_rule_concerns_event_streams_only(backend):
    head = start([(b"content-type", b"application/x-ndjson")])
    options = {"media_types": {"application/x-ndjson": Ping.space()}, "head": head}
    world = play(backend, [(20, END)], scope=request("POST"), **options)
    assert world.timeline == [(0, START), (15, b" "), (20, END)]


# Farewells

BYE = Ping.event("bye")
WAVE = Ping.comment("bye")


def ended(backend, scope, **options):
    """Return what a stream is sent that is ended 5 s after its abort."""
    controller = AbortController()
    options = {"abort": controller.signal, "drain": 5, "at": [(2, controller.abort)]} | options
    world = play(backend, [(1, X), (90, END)], scope=scope, **options)
    return [what for _, what in world.timeline[2:]]


@pytest.mark.parametrize("farewell", [BYE, WAVE], ids=["event", "comment"])
@pytest.mark.parametrize(("scope", "ping"), RULES[::3])
def test_a_farewell_follows_the_rule(backend, scope, ping, farewell):
    is_sent = not is_event(farewell) or ping in (PING, ANTHROPIC)
    expected = [farewell.payload, END] if is_sent else [END]
    assert ended(backend, scope, farewell=farewell) == expected


def test_with_a_ping_of_its_own_a_farewell_is_always_sent(backend):
    scope = request("POST")
    assert ended(backend, scope, ping=Ping.comment(), farewell=BYE) == [BYE.payload, END]


def test_a_farewell_in_a_routes_own_mapping_is_always_sent(backend):
    scope = request("POST", path="/a")
    own = {"routes": {"/a": {"farewell": BYE}}}
    assert ended(backend, scope, **own) == [BYE.payload, END]
    inherited = {"routes": {"/a": {"interval": 10}}, "farewell": BYE}
    assert ended(backend, scope, **inherited) == [END]
    policy = {"routes": {"/a": Policy(drain=5, farewell=BYE)}}
    assert ended(backend, scope, **policy) == [END]


@pytest.mark.parametrize(
    ("ping", "farewell", "inherits"),
    [
        (Ping.comment(), BYE, False),
        (Ping.blank_line(), BYE, False),
        (Ping.raw(b": a\n: b\n\n", at="event"), BYE, False),
        (Ping.comment(), WAVE, True),
        (Ping.event("tick"), BYE, True),
        (Ping.raw(b"data: {}\n\n", at="event"), BYE, True),
        (None, BYE, True),
    ],
)
def test_a_route_with_another_kind_of_ping_does_not_inherit_the_farewell(
    backend, ping, farewell, inherits
):
    options = {"routes": {"/a": {"ping": ping}}, "farewell": farewell}
    sent = ended(backend, request("GET", path="/a"), **options)
    assert sent == ([farewell.payload, END] if inherits else [END])
