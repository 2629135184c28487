"""The demo, in each browser: one stream is dropped, the other is complete."""

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from real.browsers.chromium import ChromiumTab
from real.browsers.demo_page import (
    FAINT,
    LIMIT,
    LISTEN,
    PICTURE,
    SCALE,
    WIDTH,
    Stage,
    draw,
    serve,
    size,
)
from real.browsers.engines import CHROMIUM
from real.browsers.webkit import WebKitTab
from real.http_clients import complaints
from real.processes import EXAMPLES, PATH

pytestmark = [pytest.mark.real, pytest.mark.parts]

PING = ["ping", "ping", r"event: ping\ndata: \n\n"]
FAREWELL = ["farewell", "farewell", r"event: farewell\ndata: The server ends this stream.\n\n"]
WORDS = ["Let me think.", "Still thinking.", "The answer is 42."]
CUT = "Failed to load resource: net::ERR_INCOMPLETE_CHUNKED_ENCODING"
TIMED_OUT = "Failed to load resource: the server responded with a status of 504"

SCENARIOS = {}
OF_THE_PAGE = {}


def scenario(play):
    """Run it in each browser, together with the others; a test reports the result."""
    SCENARIOS[play.__name__] = play
    return play


def of_the_page(play):
    """Run it in Chromium alone: it needs options, or is about the page's own code."""
    OF_THE_PAGE[play.__name__] = play
    return play


@pytest.fixture(scope="module")
def server(engine, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("demo")) as process:
        yield process
        assert complaints(process.log) == []


@pytest.fixture(scope="module")
def played(engine, browser, server, tmp_path_factory):
    stage = Stage(browser, server, tmp_path_factory.mktemp("stage"))
    with ThreadPoolExecutor(4) as pool:
        plays = SCENARIOS | (OF_THE_PAGE if engine == CHROMIUM else {})
        yield {name: pool.submit(play, stage) for name, play in plays.items()}


def assert_complains(page, failed_loads):
    """Assert that no other loads have failed, where the browser reports them."""
    assert page.tab.complaints == []
    if isinstance(page.tab, ChromiumTab):
        assert [text.partition(" (")[0] for text in page.tab.failed_loads] == failed_loads


def start_again(*pages):
    """Restart streams, which may have ended while another page was opening."""
    for page in pages:
        page.kept.press(".start")
    for page in pages:
        page.kept.wait_until("open")
        page.kept.wait_for_pings(1)


def assert_is_cut(side):
    said = re.fullmatch(
        r"(The proxy dropped the connection|The connection was lost) after ([\d.]+) s without"
        r" data\. The answer never arrived\.",
        side.state,
    )
    assert said, side.state
    # A page that has got its last bytes late, on a busy machine, doesn't blame the proxy.
    assert said[1] == "The connection was lost" or float(said[2]) >= 0.9 * LIMIT
    assert side.texts(".said li") == [side.text(".said li")]
    assert side.number("pings") == 0


@scenario
def one_stream_is_cut_and_the_other_is_whole(stage):
    with stage.page() as page:
        page.plain.wait_until("cut")
        assert_is_cut(page.plain)
        page.kept.wait_until("whole")
        assert re.fullmatch(r"Complete after [\d.]+ s: “The answer is 42.”", page.kept.state)
        assert page.kept.number("alive") > 4 * LIMIT
        assert [text.partition(" s")[2] for text in page.kept.texts(".said li")] == WORDS
        # The dropped one has not been restarted by itself.
        assert page.asked_for("/plain/") == 1
        page.plain.press(".start")
        page.plain.wait_until("cut")
        assert_is_cut(page.plain)
        assert page.asked_for("/plain/") == 2
        assert page.asked_for("/kept/") == 1
        assert_complains(page, [CUT, CUT])


@scenario
def a_cut_is_an_error_to_fetch_but_an_end_in_webkit(stage):
    with stage.page() as page:
        page.plain.wait_until("cut")
        (url,) = {url for url in page.urls if "/plain/" in url}
        page.tab.evaluate(
            "(url) => { how = ''; fetch(url).then((response) => response.text())"
            ".then(() => { how = 'end'; }, () => { how = 'error'; }); }",
            url,
        )
        page.tab.wait_for("how")
        is_webkit = isinstance(page.tab, WebKitTab)
        assert page.tab.evaluate("how") == ("end" if is_webkit else "error")


@scenario
def the_pings_are_marked_and_counted_as_the_server_does(stage):
    with stage.page() as page:
        page.kept.wait_until("whole")
        head, *rows = page.kept.rows
        assert head == ["headers", "headers", "200 text/event-stream"]
        events = [["event", "event", rf"data: {words}\n\n"] for words in WORDS]
        assert [row for row in rows if row != PING] == events
        assert rows.count(PING) >= 8
        assert rows[1] == rows[-2] == PING
        report = page.reported()
        assert report["reason"] == "completed"
        assert report["started_by"] == "app"
        assert int(report["pings"]) == page.kept.number("pings") == rows.count(PING)
        assert int(report["bytes_sent"]) == page.kept.number("bytes")
        assert page.kept.number("events") == 3
        marks = page.kept.find(".wire .mark", "found.map((one) => one.classList[1])")
        assert marks == [kind for kind, *_ in rows] + ["end"]
        backs = {
            kind: page.kept.find(f".frames .{kind}", "getComputedStyle(found[0]).borderLeft")
            for kind in ("ping", "event")
        }
        assert "double" in backs["ping"]  # not by its colour alone
        assert "solid" in backs["event"]


@scenario
def an_abort_ends_one_stream_and_the_page_says_why(stage):
    with stage.page() as page, stage.page() as other:
        start_again(page)
        page.kept.press("#abort")
        page.kept.wait_to_have_said("Aborted: no more pings")
        page.kept.wait_to_say("Reason: aborted.")
        assert page.kept.rows[-1] == FAREWELL
        report = page.reported()
        assert report["reason"] == "aborted"
        assert int(report["pings"]) == page.kept.number("pings") == page.kept.rows.count(PING)
        assert page.kept.find("[aria-disabled=true]", "found.length") == 2
        page.kept.press("#abort")  # nothing is left to abort
        other.kept.wait_until("whole")
        assert other.reported()["reason"] == "completed"
        assert "Reason: aborted." in page.kept.state
        page.kept.press(".start")
        page.kept.wait_until("open")
        page.kept.wait_for_pings(1)
        assert_complains(page, [CUT])


@scenario
def a_shutdown_ends_all_streams_with_a_farewell_and_so_does_ctrl_c(stage):
    with stage.alone("ended") as alone, alone.page() as page, alone.page() as other:
        start_again(page, other)
        page.kept.press("#shutdown")
        page.kept.wait_to_have_said("Shutting down: no more pings")
        for one in (page, other):
            one.kept.wait_to_say("Reason: shutdown.")
            assert "with a farewell: “The server ends this stream.”" in one.kept.state
            assert one.kept.rows[-1] == FAREWELL
            assert one.reported()["reason"] == "shutdown"
        page.kept.press(".start")  # what comes after has another middleware
        page.kept.wait_until("open")
        page.kept.wait_for_pings(2)
        alone.server.process.send_signal(signal.SIGINT)
        page.kept.wait_to_say("Ended by the server, with a farewell")
        assert page.kept.rows[-1] == FAREWELL
        assert alone.server.gone_within(20)
        assert alone.server.process.returncode == 0
        assert complaints(alone.server.log) == []


@scenario
def an_interval_above_the_limit_keeps_nothing_alive(stage):
    with stage.page() as page:
        page.choose("(too long)")
        page.kept.wait_until("cut")
        page.plain.wait_until("cut")
        assert_is_cut(page.plain)
        assert_is_cut(page.kept)
        assert page.reported()["reason"] == "disconnected"
        assert page.tab.evaluate("document.querySelector('#kept code').textContent") == (
            "KeepaliveMiddleware(app, interval=3.3)"
        )


@scenario
def without_a_first_byte_one_is_refused_and_the_other_is_started(stage):
    with stage.page() as page:
        page.choose("Slow start")
        page.plain.wait_to_say("The proxy responded with 504 after")
        assert page.plain.rows == [["headers", "headers", "504 "]]
        page.kept.wait_until("whole")
        assert [row for row in page.kept.rows[1:] if row != PING] == [
            ["event", "event", r"data: The answer is 42.\n\n"]
        ]
        assert page.reported()["started_by"] == "middleware"
        assert_complains(page, [TIMED_OUT])


@scenario
def by_keyboard_all_of_it_can_be_done(stage):
    with stage.alone("keys") as alone, alone.page() as page:
        for place in (
            "0.67 s",
            "Slow start (no bytes until the answer)",
            "Restart both",
            "Restart",
            "Received bytes: Without the middleware",
            "Restart",
            "Abort this stream",
        ):
            page.press_key("Tab")
            assert page.focused == place
        restart_by_keyboard(page)  # the first stream may be over by now
        page.press_key("Tab", "Enter")
        page.kept.wait_to_say("Reason: aborted.")
        # It can do nothing now, but the focus is not lost.
        assert page.focused == "Abort this stream"
        restart_by_keyboard(page)
        page.press_key("Tab", "Tab", "Space")
        page.kept.wait_to_have_said("Shutting down")


def restart_by_keyboard(page):
    """Press Restart, from the button after it, and wait for the stream's first ping."""
    page.press_key("Shift+Tab", "Enter")
    page.kept.wait_until("open")
    page.kept.wait_for_pings(1)


@of_the_page
def pings_are_announced_to_nobody(stage):
    """What a screen reader reads out by itself does not change with a ping."""
    with stage.page() as page:
        page.plain.wait_until("cut")
        page.kept.press(".start")
        page.kept.wait_until("open")
        page.kept.wait_for_pings(1)
        page.tab.evaluate(LISTEN)
        page.kept.wait_for_pings(4)
        said, events = page.tab.evaluate(
            "[said.length, kept.querySelectorAll('.said li').length]"
        )
        assert said == events - 1  # and no more; the first event was before
        page.tab.wait_for("said.length", "something that is said")
        assert "Still thinking." in page.tab.evaluate("said[0]")


@of_the_page
def it_fits_a_narrow_screen_and_is_legible_in_light_and_dark(stage):
    for scheme in ("light", "dark"):
        narrow = {"width": 360, "height": 800}
        with stage.page(viewport=narrow, color_scheme=scheme) as page:
            page.plain.wait_until("cut")
            page.kept.wait_for_pings(1)
            width = page.tab.evaluate("document.documentElement.scrollWidth")
            assert width <= narrow["width"]
            page.kept.wait_until("whole")
            for side in (page.plain, page.kept):  # what became of both, without scrolling
                for part in (".state", ".wire"):
                    bottom = side.find(part, "found[0].getBoundingClientRect().bottom")
                    assert 0 < bottom < 640
            assert page.tab.evaluate(FAINT) == []


@of_the_page
def nothing_is_asked_of_anybody_else(stage):
    with stage.page() as page:
        page.kept.wait_for_pings(1)
        assert len(page.urls) >= 4
        assert all(url.startswith(stage.server.url("/")) for url in page.urls)
    for file in EXAMPLES.glob("demo*"):
        found = set(re.findall(r"\w+://[^/\s]+", file.read_text()))
        assert found <= {"http://127.0.0.1:8000", "http://{HOST}:{PORT}"}


@of_the_page
def the_picture_is_of_the_page(stage):
    drawn = stage.folder / "demo.png"
    draw(stage.browser, stage.server, drawn)
    for file in (drawn, PICTURE):
        width, height = size(file)
        assert width == WIDTH * SCALE
        assert 0.5 < height / width < 0.9
        assert 30_000 < file.stat().st_size < 400_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_demo(played, name):
    played[name].result()


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
@pytest.mark.parametrize("name", OF_THE_PAGE)
def test_page(played, name):
    played[name].result()


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
def test_a_port_that_is_taken_is_reported_in_one_line(server):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py"],
        env=os.environ | {"PYTHONPATH": PATH, "DEMO_PORT": str(server.port)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(". Set DEMO_PORT to use another port.")
