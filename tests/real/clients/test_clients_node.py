"""Clients in Node.js: what each makes of each ping, in its own protocol."""

import pytest
from real.clients import checks
from real.clients.readings import TIMEOUT, readings
from real.clients.rows import (
    ANTHROPIC_NODE,
    GOOGLE_NODE,
    GRAPHQL,
    LANGGRAPH_NODE,
    MCP_NODE,
    NODE,
    OPENAI_NODE,
    VERCEL,
)

pytestmark = [pytest.mark.real, pytest.mark.parts, pytest.mark.timeout(TIMEOUT)]

FAMILIES = (
    NODE,
    VERCEL,
    OPENAI_NODE,
    ANTHROPIC_NODE,
    GOOGLE_NODE,
    LANGGRAPH_NODE,
    MCP_NODE,
    GRAPHQL,
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with readings(checks.rows(*FAMILIES), tmp_path_factory.mktemp("clients")) as made:
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
