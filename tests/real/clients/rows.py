"""The clients that pings are tried with, and what is promised of them."""

from collections.abc import Iterator
from typing import Final

from real.clients.pings import HARMFUL, INVISIBLE, LISTENED_FOR, LOGGED, TITLES, VISIBLE
from real.clients.readings import (
    CUT,
    GOES_ON,
    Case,
    Client,
    Family,
    Timer,
    Unset,
    cases,
    node,
    python,
)

SSE: Final = python("sse", "httpx-sse", "aiohttp", "aiohttp-sse-client2", "aiosseclient")
OPENAI: Final = python("openai_sdk", "openai")
ANTHROPIC: Final = python("anthropic_sdk", "anthropic")
MCP: Final = python("mcp_sdk", "mcp", app="mcp_app")
GOOGLE: Final = python("google_sdk", "google-genai")
MISTRAL: Final = python("mistral_sdk", "mistralai")
LANGCHAIN: Final = python("langchain_sdk", "langchain-openai", "langchain-anthropic")
LANGGRAPH: Final = python("langgraph_client", "langgraph-sdk")
LITELLM: Final = python("litellm_sdk", "litellm")
GRADIO: Final = python("gradio_sdk", "gradio_client")
PLAIN: Final = python(
    "plain_http", "program:curl", "aiohttp", "httpx", "requests", "starlette"
)
BROWSERS: Final = {
    name: python("browsers", f"program:{name}", *others, "httpx")
    for name, others in (("chromium", ()), ("firefox", ()), ("webkit", ("program:xvfb",)))
}
NODE: Final = node("sse", "eventsource", "eventsource-parser", "undici")
VERCEL: Final = node(
    "ai", "ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic"
)
OPENAI_NODE: Final = node("openai", "openai")
ANTHROPIC_NODE: Final = node("anthropic", "@anthropic-ai/sdk")
GOOGLE_NODE: Final = node("google", "@google/genai")
LANGGRAPH_NODE: Final = node("langgraph", "@langchain/langgraph-sdk")
MCP_NODE: Final = node("mcp", "@modelcontextprotocol/client", app="mcp_app")
GRAPHQL: Final = node("graphql", "graphql-sse")
FETCHING: Final = node("fetching", "axios", "undici")

RECORDS: Final = (
    Case("`Ping.blank_line()`", "records", "newline"),
    Case("`Ping.space()`", "records", "space"),
    Case("`Ping.space()` before a record", "records-first", "space"),
    Case("space and newline", "records", "space-newline"),
    Case("`{}` and newline", "records", "record"),
)
ANTHROPIC_CASES: Final = (
    *cases("anthropic"),
    Case("Anthropic's `ping` event", "anthropic", "typed"),
)


def _streams(
    family: Family, protocol: str, suits: str, *rows: tuple[str, str, str]
) -> tuple[Client, ...]:
    """Return clients of event streams.

    Args:
        family: Where they are read.
        protocol: What they read.
        suits: The ping that the twin is tried with.
        rows: The name in the table, the reader, and what is tried.
    """
    held = Case(TITLES[suits], protocol, suits)
    tried = ANTHROPIC_CASES if protocol == "anthropic" else cases(protocol)
    return tuple(
        Client(row, family, reader, tuple(used.split()), tried, held)
        for row, reader, used in rows
    )


def _sources(*rows: tuple[str, str, str]) -> tuple[Client, ...]:
    """Return clients that hand events to listeners, by the names of the events."""
    held = Case(TITLES["event"], "sse", "event")
    return tuple(
        Client(row, NODE, reader, (used,), cases("sse"), held, f"{reader}-listening")
        for row, reader, used in rows
    )


def _records(family: Family, *rows: tuple[str, str, str]) -> tuple[Client, ...]:
    """Return readers of NDJSON."""
    return tuple(
        Client(row, family, reader, (used,), RECORDS, RECORDS[2]) for row, reader, used in rows
    )


TABLES: Final[dict[str, tuple[Client, ...]]] = {
    "sse": (
        *_streams(
            SSE,
            "sse",
            "comment",
            ("httpx-sse", "httpx-sse", "httpx-sse"),
            ("httpx-sse, async", "httpx-sse-async", "httpx-sse"),
            ("aiohttp-sse-client2", "aiohttp-sse-client2", "aiohttp-sse-client2"),
            ("aiosseclient", "aiosseclient", "aiosseclient"),
        ),
        *_sources(
            ("`EventSource` of npm's eventsource", "eventsource", "npm:eventsource"),
            ("`EventSource` of undici", "undici-eventsource", "npm:undici"),
        ),
        *_streams(
            NODE,
            "sse",
            "comment",
            ("eventsource-parser, `createParser`", "parser", "npm:eventsource-parser"),
            ("eventsource-parser, a stream", "parser-stream", "npm:eventsource-parser"),
        ),
    ),
    "openai": (
        *_streams(
            OPENAI,
            "chat",
            "comment",
            ("Python, chat", "chat", "openai"),
            ("Python, chat, async", "chat-async", "openai"),
            ("Python, chat, `stream()`", "chat-helper", "openai"),
        ),
        *_streams(
            OPENAI,
            "responses",
            "comment",
            ("Python, responses", "responses", "openai"),
            ("Python, responses, `stream()`", "responses-helper", "openai"),
        ),
        *_streams(
            VERCEL,
            "chat",
            "comment",
            ("Vercel AI SDK, chat", "openai-chat", "npm:ai npm:@ai-sdk/openai"),
            (
                "Vercel AI SDK, compatible",
                "openai-compatible",
                "npm:ai npm:@ai-sdk/openai-compatible",
            ),
        ),
        *_streams(
            VERCEL,
            "responses",
            "comment",
            ("Vercel AI SDK, responses", "openai-responses", "npm:ai npm:@ai-sdk/openai"),
        ),
        *_streams(
            OPENAI_NODE,
            "chat",
            "comment",
            ("JavaScript, chat", "chat", "npm:openai"),
            ("JavaScript, chat, `stream()`", "chat-helper", "npm:openai"),
        ),
        *_streams(
            OPENAI_NODE,
            "responses",
            "comment",
            ("JavaScript, responses", "responses", "npm:openai"),
        ),
        *_streams(
            LANGCHAIN,
            "chat",
            "comment",
            ("LangChain, chat", "openai", "langchain-openai openai"),
            ("LangChain, chat, async", "openai-async", "langchain-openai openai"),
        ),
        *_streams(
            LANGCHAIN,
            "responses",
            "comment",
            ("LangChain, responses", "openai-responses", "langchain-openai openai"),
        ),
        *_streams(
            LITELLM, "chat", "comment", ("LiteLLM's client", "openai", "litellm openai")
        ),
        *_streams(
            MISTRAL,
            "chat",
            "comment",
            ("Mistral's SDK", "chat", "mistralai"),
            ("Mistral's SDK, async", "chat-async", "mistralai"),
        ),
    ),
    "anthropic": (
        *_streams(
            ANTHROPIC,
            "anthropic",
            "event",
            ("Python, `create()`", "messages", "anthropic"),
            ("Python, `create()`, async", "messages-async", "anthropic"),
            ("Python, `stream()`", "helper", "anthropic"),
        ),
        *_streams(
            VERCEL,
            "anthropic",
            "comment",
            ("Vercel AI SDK", "anthropic", "npm:ai npm:@ai-sdk/anthropic"),
        ),
        *_streams(
            ANTHROPIC_NODE,
            "anthropic",
            "event",
            ("JavaScript, `create()`", "messages", "npm:@anthropic-ai/sdk"),
            ("JavaScript, `stream()`", "helper", "npm:@anthropic-ai/sdk"),
        ),
        *_streams(
            LANGCHAIN,
            "anthropic",
            "event",
            ("LangChain", "anthropic", "langchain-anthropic anthropic"),
        ),
        *_streams(LITELLM, "anthropic", "event", ("LiteLLM's client", "anthropic", "litellm")),
    ),
    "google": (
        *_streams(
            GOOGLE,
            "gemini",
            "blank",
            ("Python", "stream", "google-genai"),
            ("Python, async", "stream-async", "google-genai"),
        ),
        *_streams(
            GOOGLE_NODE, "gemini", "blank", ("JavaScript", "stream", "npm:@google/genai")
        ),
        # No twin: a blank line inside an event does it no harm.
        Client("LiteLLM's client", LITELLM, "gemini", ("litellm",), cases("gemini")),
    ),
    "langgraph": (
        *_streams(
            LANGGRAPH,
            "langgraph",
            "comment",
            ("Python", "run", "langgraph-sdk"),
            ("Python, sync", "run-sync", "langgraph-sdk"),
            ("Python, `join_stream`", "join", "langgraph-sdk"),
        ),
        *_streams(
            LANGGRAPH_NODE,
            "langgraph",
            "comment",
            ("JavaScript", "run", "npm:@langchain/langgraph-sdk"),
            ("JavaScript, `joinStream`", "join", "npm:@langchain/langgraph-sdk"),
        ),
    ),
    "graphql": _streams(
        GRAPHQL,
        "graphql",
        "comment",
        ("graphql-sse, distinct connections", "distinct", "npm:graphql-sse"),
        ("graphql-sse, a single connection", "single", "npm:graphql-sse"),
    ),
    # No twin: every ping harms it.
    "gradio": (
        Client(
            "Gradio's client, Python",
            GRADIO,
            "predict",
            ("gradio_client",),
            cases("gradio"),
        ),
    ),
    "mcp": (
        *_streams(
            MCP,
            "mcp",
            "comment",
            ("streamable HTTP", "http", "mcp"),
            ("streamable HTTP, with a session", "http-session", "mcp"),
        ),
        # No twin: what is broken in its first event leaves this client waiting.
        Client("SSE, the older transport", MCP, "sse", ("mcp",), cases("sse")),
        *(
            Client(row, MCP_NODE, reader, ("npm:@modelcontextprotocol/client",), cases(path))
            for row, reader, path in (
                ("JavaScript, streamable HTTP", "http", "mcp"),
                ("JavaScript, SSE, the older transport", "sse", "sse"),
            )
        ),
    ),
    "ui": _streams(
        VERCEL,
        "ui",
        "comment",
        ("`DefaultChatTransport`", "ui-chunks", "npm:ai"),
        ("`readUIMessageStream`", "ui-messages", "npm:ai"),
    ),
    "by-hand": (
        *_streams(
            SSE,
            "chat",
            "comment",
            ("aiohttp, lines that begin with `data: `", "lines-checked", "aiohttp"),
        ),
        *_streams(SSE, "chat", "blank", ("aiohttp, any line", "lines-unchecked", "aiohttp")),
        *_streams(SSE, "chat", "event", ("aiohttp, split on blank lines", "split", "aiohttp")),
        *_streams(
            NODE,
            "chat",
            "comment",
            ("undici, lines that begin with `data: `", "lines-checked", "npm:undici"),
        ),
        *_streams(
            NODE, "chat", "event", ("undici, split on blank lines", "split", "npm:undici")
        ),
    ),
    "ndjson": (
        *_records(
            SSE,
            ("aiohttp, every line", "aiohttp-records", "aiohttp"),
            ("httpx, `iter_lines`", "httpx-records", "httpx"),
            ("httpx, `iter_lines`, non-empty lines", "httpx-records-checked", "httpx"),
        ),
        *_records(
            NODE,
            ("undici, split on newlines", "records", "npm:undici"),
            ("undici, split on newlines, non-empty lines", "records-checked", "npm:undici"),
        ),
    ),
}


def _timers(kept: str, *rows: tuple[Family, str, str, str, str]) -> tuple[Timer, ...]:
    """Return timers, of each one's family, protocol, name, reader, and part."""
    return tuple(
        Timer(row, family, reader, (used,), Case("", protocol, "comment"), kept)
        for family, protocol, row, reader, used in rows
    )


TIMERS: Final = {
    GOES_ON: _timers(
        "waiting",
        (SSE, "sse", "httpx, `timeout`", "httpx-timer", "httpx"),
        (SSE, "sse", "aiohttp, `sock_read`", "aiohttp-timer", "aiohttp"),
        (OPENAI, "chat", "openai, `timeout`", "timer", "openai"),
        (ANTHROPIC, "anthropic", "anthropic, `timeout`", "timer", "anthropic"),
        (NODE, "sse", "undici, `bodyTimeout`", "timer", "npm:undici"),
    ),
    CUT: _timers(
        "endless",
        (MCP, "mcp", "mcp, `read_timeout_seconds`", "timer", "mcp"),
        (VERCEL, "chat", "Vercel AI SDK, `chunkMs`", "timer", "npm:ai"),
    ),
}
"""By what becomes of their streams with pings; without, all are cut."""

_TEXT: Final = ("Hello", ", world")
MARKS: Final = {
    **dict.fromkeys(TABLES, _TEXT),
    "sse": ("one", "lines", "three"),
    "mcp": ("counted",),
    "ndjson": ("two words",),
}
"""What a client must have got of a stream without pings, by table."""

_JSON: Final = {"comment": INVISIBLE, "event": HARMFUL}
_PROMISED: Final = {
    ("openai", OPENAI): _JSON,
    ("openai", VERCEL): _JSON,
    ("anthropic", ANTHROPIC): {"comment": INVISIBLE, "event": INVISIBLE, "typed": INVISIBLE},
    ("anthropic", VERCEL): {**_JSON, "typed": INVISIBLE},
    ("mcp", MCP): {"comment": INVISIBLE, "event": LOGGED},
    ("ui", VERCEL): _JSON,
}


def promises(*families: Family) -> Iterator[tuple[Client, Case, str]]:
    """Return what the README promises: a client, a case, and what the client makes of it."""
    for table, rows in TABLES.items():
        for client in rows:
            said = _PROMISED.get((table, client.family), {})
            if table == "sse":
                heard = LISTENED_FOR if client.listener else VISIBLE
                said = {"comment": INVISIBLE, "event": heard}
            if client.reader == "split":
                said = {"event": INVISIBLE, "comment": HARMFUL}
            if client.family in families:
                tried = {case.ping: case for case in client.cases}
                yield from ((client, tried[ping], word) for ping, word in said.items())


_UNSET_WORDS: Final = {
    ("sse", "httpx-sse"): VISIBLE,
    ("sse", "httpx-sse, async"): VISIBLE,
    ("sse", "aiohttp-sse-client2"): VISIBLE,
    ("sse", "aiosseclient"): VISIBLE,
    ("sse", "`EventSource` of npm's eventsource"): LISTENED_FOR,
    ("sse", "`EventSource` of undici"): LISTENED_FOR,
    ("mcp", "SSE, the older transport"): LOGGED,
    ("langgraph", "Python, `join_stream`"): VISIBLE,
    ("by-hand", "aiohttp, lines that begin with `data: `"): HARMFUL,
    ("by-hand", "aiohttp, any line"): HARMFUL,
    ("by-hand", "undici, split on blank lines"): HARMFUL,
    ("gradio", "Gradio's client, Python"): HARMFUL,
}
"""What clients make of the default ping, where it is not invisible.

They send a GET and hand every event to the caller, or they read the text by hand. Gradio's
client accepts no ping but Gradio's heartbeat.
"""

UNSET_ROWS: Final = (
    *(
        Unset(table, client, _UNSET_WORDS.get((table, client.row), INVISIBLE))
        for table, rows in TABLES.items()
        if table != "ndjson"
        for client in rows
    ),
    *(Unset("gradio", client, INVISIBLE, "excluded") for client in TABLES["gradio"]),
)
"""The clients of the tables with no option set."""


def _bare(family: Family, ping: str, *rows: tuple[str, str, str]) -> tuple[Unset, ...]:
    """Return clients that read the text of a stream, and find a ping there."""
    return tuple(
        Unset("http", Client(row, family, reader, (used,), cases("sse")), ping)
        for row, reader, used in rows
    )


BARE: Final = (
    *_bare(
        PLAIN,
        "event",
        ("curl", "curl", "program:curl"),
        ("curl, `Accept: text/event-stream`", "curl-events", "program:curl"),
        ("httpx, GET", "httpx-get", "httpx"),
        ("httpx, GET, `Accept: text/event-stream`", "httpx-get-events", "httpx"),
        ("requests, GET", "requests-get", "requests"),
        ("requests, GET, `Accept: text/event-stream`", "requests-get-events", "requests"),
        ("aiohttp, GET", "aiohttp-get", "aiohttp"),
        ("Starlette's `TestClient`, GET", "test-client", "starlette"),
    ),
    *_bare(
        PLAIN,
        "comment",
        ("httpx, POST", "httpx-post", "httpx"),
        ("requests, POST", "requests-post", "requests"),
        ("aiohttp, POST", "aiohttp-post", "aiohttp"),
    ),
    *_bare(FETCHING, "event", ("axios, GET", "axios-get", "npm:axios")),
    *_bare(
        FETCHING,
        "comment",
        ("axios, its fetch adapter, GET", "axios-get-fetch", "npm:axios"),
        ("Node's fetch, GET", "fetch-get", "program:node"),
        (
            "Node's fetch, GET, `Accept: text/event-stream`",
            "fetch-get-events",
            "program:node",
        ),
        ("Node's fetch, POST", "fetch-post", "program:node"),
        ("undici's fetch, GET", "undici-fetch", "npm:undici"),
    ),
)
"""HTTP clients that know nothing of events, each with the ping that the default is for it."""

WINDOWS: Final = tuple(
    Unset(
        "windows",
        Client(title, BROWSERS[name], name, (f"program:{name}",), cases("sse")),
        LISTENED_FOR,
    )
    for title, name in (("Chromium", "chromium"), ("Firefox", "firefox"), ("WebKit", "webkit"))
)
"""Browsers, each with a page that reads with `EventSource` and with `fetch()`."""
