"""Clients in Python: what each makes of each ping, in its own protocol."""

import pytest
from real.clients import checks
from real.clients.readings import TIMEOUT, Case, Timer, path, readings
from real.clients.rows import (
    ANTHROPIC,
    GOOGLE,
    GRADIO,
    LANGCHAIN,
    LANGGRAPH,
    LITELLM,
    MCP,
    MISTRAL,
    OPENAI,
    SSE,
)
from real.parts import need

pytestmark = [pytest.mark.real, pytest.mark.parts, pytest.mark.timeout(TIMEOUT)]

FAMILIES = (
    SSE,
    OPENAI,
    ANTHROPIC,
    MCP,
    GOOGLE,
    MISTRAL,
    LANGCHAIN,
    LANGGRAPH,
    LITELLM,
    GRADIO,
)
KIND = Timer("", MCP, "kind", (), Case("", "mcp", "comment"), "waiting")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with readings([*checks.rows(*FAMILIES), KIND], tmp_path_factory.mktemp("clients")) as made:
        yield made


@pytest.mark.parametrize(("table", "client", "case"), checks.cells(*FAMILIES))
def test_what_a_client_makes_of_a_ping(found, table, client, case):
    checks.hold_cell(found, table, client, case)


@pytest.mark.parametrize(("table", "client"), checks.clients(*FAMILIES))
def test_without_pings_a_client_gets_everything(found, table, client):
    checks.hold_plain(found, table, client)


@pytest.mark.parametrize("client", checks.held(*FAMILIES))
def test_a_ping_harms_a_client_inside_an_event_and_not_between(found, client):
    checks.hold_boundary(found, client)


@pytest.mark.parametrize(("client", "case", "word"), checks.promised(*FAMILIES))
def test_the_readme_is_right(found, client, case, word):
    checks.hold_promise(found, client, case, word)


@pytest.mark.parametrize(("timer", "fate"), checks.timers(*FAMILIES))
def test_pings_hold_off_a_timer_or_not(found, timer, fate):
    checks.hold_timer(found, timer, fate)


@pytest.mark.parametrize("delivery", ["silent", "waiting"])
def test_mcp_without_a_session_starts_no_stream_for_a_call_that_reports_nothing(
    found, delivery
):
    need(*MCP.parts)
    kinds = found.of(MCP, "kind", path(delivery, KIND.case)).got
    assert kinds == ["application/json", "text/event-stream"]


def test_the_tables_have_the_cells_of_these_tests_and_no_other():
    for table, cells in checks.published().items():
        assert checks.BOOK.cells(table) == cells
