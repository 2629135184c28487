"""The watchdog of the documentation, in each browser: when it takes a connection for dead,
when not, and what becomes of the events.
"""

import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from real.browsers.relay import Relay
from real.browsers.watchdog_page import INTERVAL, Stage, serve
from real.http_clients import complaints
from real.processes import EXAMPLES, running, wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

LIMIT = 2.5 * INTERVAL
PING = b"event: ping"

OPEN = 1
"""What `readyState` is of a connection that is there."""

HELD = """
  const set = window.setTimeout;
  window.setTimeout = (action, after) => window.held ? 0 : set(action, after);
"""
"""Timers that can be held back, as those of a page are that nobody looks at."""

HASTY = """
  const set = window.setTimeout;
  window.setTimeout = (action, after) => set(action, after / 200);
"""


WATCH = """async (options) => {
  heard = [];
  lost = [];
  const { watch } = await import("/watchdog.js");
  const onEvent = ({ type, data, lastEventId }) => heard.push([type, data, lastEventId]);
  const onState = (state, { reason }) => { if (reason) lost.push(reason); };
  dog = watch("/events", { ...options, onEvent, onState });
}"""


def named(port):
    options = ["--port", str(port), "--lifespan", "off", "--log-level", "warning"]
    return [
        sys.executable,
        "-m",
        "uvicorn",
        "real.browsers.named_event_app:application",
        *options,
    ]


SCENARIOS = {}


def scenario(play):
    """Run it together with the others; a test of its own reports the result."""
    SCENARIOS[play.__name__] = play
    return play


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("watchdog")) as process:
        yield process
        assert complaints(process.log) == []


@pytest.fixture(scope="module")
def played(browser, server, tmp_path_factory):
    stage = Stage(browser, server, tmp_path_factory.mktemp("stage"))
    with ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(play, stage) for name, play in SCENARIOS.items()}


@scenario
def a_server_that_stood_still_or_was_away_is_found_again(stage):
    with stage.relay() as relay, ExitStack() as first:
        server = first.enter_context(serve(stage.folder / "first"))
        relay.leads_to = server.port
        with stage.page(relay) as page:
            page.wait_for_events(2)
            server.process.send_signal(signal.SIGSTOP)
            page.wait_until("lost")
            server.process.send_signal(signal.SIGCONT)
            page.wait_until("alive")
            silences = page.reasons  # more than one if the server was slow to go on
            assert set(silences) == {"silent"}
            server.process.send_signal(signal.SIGINT)
            least = len(silences) + 2
            wait_for(lambda: len(page.reasons) >= least, "a connection that is refused")
            assert complaints(server.log) == []
            first.close()
            with serve(stage.folder / "second") as server:
                relay.leads_to = server.port
                page.wait_until("alive")
                page.wait_for_events(2)
                page.assert_no_event_is_missing()
                assert set(page.reasons[len(silences) :]) == {"ended"}
                assert complaints(server.log) == []


@scenario
def the_page_shows_events_and_pings_and_its_state(stage):
    with stage.page(stage.server) as page:
        page.wait_for_events(3)
        page.wait_for_number("pings", 3)
        page.assert_no_event_is_missing()
        assert page.number("limit") == pytest.approx(LIMIT, abs=0.1)
        assert page.number("reconnects") == 0
        assert page.number("silence") < LIMIT
        assert page.states == ["alive"]
        assert page.tab.complaints == []
    for file in EXAMPLES.glob("watchdog.*"):
        assert set(re.findall(r"https?://[^/\s]+", file.read_text())) <= {
            "http://127.0.0.1:8000"
        }


@scenario
def a_stream_that_ends_is_opened_again_with_no_event_lost(stage):
    with stage.page(stage.server, more="&steps=2") as page:
        page.wait_for_number("reconnects", 2)
        page.wait_for_events(2)
        page.assert_no_event_is_missing()
        assert page.states[:5] == ["alive", "lost", "alive", "lost", "alive"]
        assert set(page.reasons) == {"ended"}
        assert page.tab.complaints == []


@scenario
def a_dead_connection_is_noticed_by_missing_pings(stage):
    with stage.relay() as relay, stage.page(relay) as page:
        page.wait_for_events(2)
        relay.kill()
        wait_for(lambda: len(page.history) >= 3, "a connection that is lost, and a new one")
        lost = page.history[1]
        assert page.states == ["alive", "lost", "alive"]
        assert lost["reason"] == "silent"
        # By the page's own clock; what is above the limit is the time that a timer was late.
        assert LIMIT <= float(lost["silence"]) + 0.01 < LIMIT + 3
        assert page.number("reconnects") == 1
        page.wait_for_events(3)
        page.assert_no_event_is_missing()
        page.wait_until("alive")
        assert page.tab.complaints == []
    assert relay.swallowed(b"id: ") >= 1  # there was an event to lose


@scenario
def without_the_watchdog_a_dead_connection_is_noticed_by_nobody(stage):
    path = f"/events?interval={INTERVAL}&silence={INTERVAL}"
    with stage.relay() as relay, stage.browser.tab(relay.url("/watchdog.js")) as tab:
        tab.evaluate(
            "(path) => { errors = heard = 0; source = new EventSource(path);"
            " source.onerror = () => { errors += 1; };"
            " source.addEventListener('ping', () => { heard += 1; }); }",
            path,
        )
        tab.wait_for("heard >= 2")
        relay.kill()
        wait_for(lambda: relay.swallowed(PING) >= 2 * LIMIT / INTERVAL, "pings that are lost")
        heard, errors, state = tab.evaluate("[heard, errors, source.readyState]")
        assert heard == relay.passed(PING)
        assert (errors, state) == (0, OPEN)


@scenario
def a_stream_with_nothing_but_pings_is_not_taken_for_dead(stage):
    with stage.page(stage.server, silence=3600) as page:
        page.wait_for_number("pings", 4 * LIMIT / INTERVAL + 1)
        assert page.states == ["alive"]
        assert page.number("reconnects") == 0


@scenario
def a_page_that_stood_still_reads_what_waits_for_it(stage):
    with stage.relay() as relay, stage.page(relay, silence=3600) as page:
        for _ in range(2):
            enough = relay.passed(PING) + 2 * LIMIT / INTERVAL
            page.tab.evaluate(
                "(lasts) => void setTimeout(() => {"
                " const end = Date.now() + lasts; while (Date.now() < end);"
                " window.dispatchEvent(new Event('online')); })",  # before anything is read
                1000 * 2 * LIMIT,
            )
            wait_for(lambda least=enough: relay.passed(PING) >= least, "pings")
            page.wait_for_number("pings", relay.passed(PING) + 1)
        assert page.states == ["alive"]


def woken_by(stage, event):
    """Drop a connection while the timers stand still; then do something."""
    with stage.relay() as relay, stage.page(relay, script=HELD) as page:
        page.tab.evaluate("() => { held = true; }")
        page.wait_for_number("pings", page.number("pings") + 1)  # the last timer is gone
        before = page.states  # on a slow machine, the stream may have been lost already
        relay.kill()
        wait_for(lambda: relay.swallowed(PING) >= 2 * LIMIT / INTERVAL, "pings that are lost")
        assert page.states == before
        page.tab.evaluate("() => { held = false; }")
        page.tab.evaluate(f"() => void {event}")
        states = [*before, "lost", "alive"]
        wait_for(lambda: page.states[: len(states)] == states, "a new connection")
        page.wait_for_events(2)
        page.assert_no_event_is_missing()


@scenario
def a_page_whose_timers_stood_still_looks_when_it_is_seen(stage):
    woken_by(stage, "document.dispatchEvent(new Event('visibilitychange'))")


@scenario
def a_page_whose_timers_stood_still_looks_when_the_network_is_back(stage):
    woken_by(stage, "window.dispatchEvent(new Event('online'))")


@scenario
def by_keyboard_the_page_is_disconnected_and_connected(stage):
    def press_next_button(page):
        for key in ("Tab", "Enter"):
            page.tab.press(key)

    with stage.relay() as relay, stage.page(relay) as page:
        page.wait_for_events(1)
        press_next_button(page)
        page.wait_until("closed")
        assert page.tab.evaluate("state.textContent") == "Disconnected."
        wait_for(lambda: relay.has_closed(PING), "the end of the connection")
        press_next_button(page)
        page.wait_until("alive")
        page.wait_for_events(2)
        page.assert_no_event_is_missing()
        assert page.states == ["alive", "closed", "alive"]


@scenario
def pings_are_announced_to_nobody(stage):
    """What a screen reader reads out by itself: the state, and the events."""
    with stage.page(stage.server) as page:
        page.tab.evaluate(
            "() => { said = []; const live = document.querySelectorAll("
            "'[role=status], [role=log], [role=alert], [aria-live]');"
            " for (const one of live) new MutationObserver(() => said.push(one.id))"
            ".observe(one, { childList: true, characterData: true, subtree: true }); }"
        )
        page.wait_for_number("pings", page.number("pings") + 3)
        page.wait_for_events(1)
        assert set(page.tab.evaluate("said")) == {"events"}


@scenario
def the_waits_grow_up_to_a_bound_and_are_not_the_same(stage):
    with stage.browser.tab(stage.server.url("/watchdog.js"), HASTY) as tab:
        tab.evaluate(
            "async () => { waits = []; const { watch } = await import('/watchdog.js');"
            " const onState = (state, { reason, wait }) => { if (reason) waits.push(wait); };"
            " dog = watch('/nowhere', { onState }); }"
        )
        tab.wait_for("waits.length >= 8")
        waits = tab.evaluate("(dog.close(), waits)")
    most = [min(30, 2**number) for number in range(len(waits))]
    assert all(0.5 * top <= wait <= top for wait, top in zip(waits, most, strict=True))
    assert len({wait / top for wait, top in zip(waits, most, strict=True)}) == len(waits)


@scenario
def named_events_the_interval_and_the_last_id_are_the_options(stage):
    """The app has an event with a name, and pings without a number."""
    with ExitStack() as stack:
        server = stack.enter_context(running("uvicorn", named, stage.folder / "named"))
        way = stack.enter_context(closing(Relay(server.port)))
        with stage.browser.tab(way.url("/watchdog.js")) as tab:
            tab.evaluate(WATCH, {"names": ["update"], "lastId": "41", "interval": INTERVAL})
            tab.wait_for("heard.some(([type]) => type === 'ping')")
            assert tab.evaluate("heard[0]") == ["update", "after 41", "42"]
            assert tab.evaluate("dog.limit") == LIMIT
            way.kill()
            tab.wait_for("heard.filter(([type]) => type === 'update').length >= 2")
            assert tab.evaluate("lost") == ["silent"]
            assert ["update", "after 42", "43"] in tab.evaluate("heard")
            tab.evaluate("dog.close()")


@pytest.mark.parametrize("name", SCENARIOS)
def test_watchdog(played, name):
    played[name].result()
