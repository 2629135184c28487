"""`python -m keepalive`, behind real proxies and without one."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from real.http_clients import complaints
from real.parts import need
from real.processes import PATH, Process, running
from real.proxies.configurations import CADDY, HAPROXY, LIMIT, NGINX, PROXIES, TOTAL, VARNISH

pytestmark = pytest.mark.real
PARTS = pytest.mark.parts
ABOUT_LIMIT = r"(1\.[6-9]|2\.[0-4])"
"""Seconds: the limit may be counted from the request, or from a timer a little older."""


def uvicorn(port: int) -> list[str]:
    """Return the command that serves the app."""
    command = [sys.executable, "-m", "uvicorn", "real.proxies.command_app:application"]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[Process]:
    with running("uvicorn", uvicorn, tmp_path_factory.mktemp("command") / "app") as process:
        yield process
        found = [x for x in complaints(process.log) if "Invalid HTTP request" not in x]
        assert found == []  # one test speaks TLS to it


@pytest.fixture(scope="module")
def site(app, tmp_path_factory):
    """Run a proxy in a mode, each once; without a proxy, it is the app."""
    sites: dict[tuple[str, str], Process] = {}

    def site(proxy, mode):
        if proxy is None:
            return app
        need(proxy.program)
        if (proxy.name, mode) not in sites:
            folder = tmp_path_factory.mktemp("proxy")
            sites[proxy.name, mode] = stack.enter_context(
                proxy.running(mode, folder, app.port)
            )
        return sites[proxy.name, mode]

    with ExitStack() as stack:
        yield site


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "keepalive", *arguments]


ENVIRON = os.environ | {"PYTHONPATH": PATH}


def call(url: str, *options: str, verdict: str = "") -> tuple[int, str]:
    """Return the command's exit status and what it has printed, in one line.

    Verdicts are about times, and on a busy machine each program may be late. So the command is
    run up to three times, until its output matches the pattern `verdict`.
    """
    for _ in range(3):
        status, text = call_once(url, *options)
        if re.search(verdict, text):
            return status, text
        print(text)
    pytest.fail(f"the output does not match {verdict!r}: {text}")


def call_once(url: str, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*options, url),
        env=ENVIRON,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.stderr == ""
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    return done.returncode, " ".join(done.stdout.split())


# Without a proxy


@pytest.mark.parametrize(
    ("client", "ping"),
    [
        ("browser", "event: ping"),
        ("curl", "event: ping"),
        ("openai", "comment"),
        ("anthropic", "event: ping"),
    ],
)
def test_the_ping_of_a_client(app, client, ping):
    url, options = app.url("/kept/silent"), ("--as", client, "--for", "2.2")
    status, text = call(url, *options, verdict=r" ok Open for 2\.\d s")
    assert f" ping {ping}, " in text
    assert "x-accel-buffering: no" in text
    assert status == 0


@pytest.mark.parametrize(
    ("path", "verdict", "status"),
    [
        ("/plain/silent", r" problem Idle for 2\.\d s", 1),
        ("/plain/talking", r" ok Open for 2\.\d s", 0),
        ("/kept/moved", r" ok Open for 2\.\d s", 0),
        ("/plain/page", r" problem Not a stream: text/html, 6 bytes\.", 1),
        ("/plain/mute", r" problem No response after 2\.\d s", 1),
    ],
)
def test_without_a_proxy(app, path, verdict, status):
    found, _ = call(app.url(path), "--for", "2.2", verdict=verdict)
    assert found == status


def test_a_connection_that_is_refused():
    status, text = call("http://127.0.0.1:1/")
    assert "end failed: ConnectionRefusedError" in text
    assert status == 1


def test_a_name_that_is_not_known():
    status, text = call("http://name.invalid/")
    assert "end failed: gaierror" in text
    assert status == 1


def test_a_server_without_tls(app):
    status, text = call(app.url("/").replace("http:", "https:"))
    assert "end failed: SSLError" in text
    assert status == 1


def test_ctrl_c_on_a_terminal(app):
    try:
        ours, theirs = os.openpty()
    except OSError as error:  # a container without devpts
        pytest.skip(f"no terminal can be opened: {error}")
    process = subprocess.Popen(
        command(app.url("/kept/silent")),
        env=ENVIRON,
        stdout=theirs,
        stderr=theirs,
        # A shell's background jobs ignore it, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    os.close(theirs)
    output = b""
    try:
        while b" s, last: ping at " not in output:
            output += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # Linux raises EIO at the end
            while part := os.read(ours, 4096):
                output += part
        assert process.wait(20) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    report = output.decode().replace("\r\n", "\n").rpartition("\r")[2]
    assert " end      interrupted\n" in report
    assert "\x1b[32mok\x1b[0m       Open for " in report
    assert "Traceback" not in output.decode()


# Behind proxies


ALONE_AND_BEHIND = [
    pytest.param(None, id="uvicorn alone"),
    *(pytest.param(x, id=x.name, marks=PARTS) for x in PROXIES.values()),
]


@pytest.mark.parametrize("proxy", ALONE_AND_BEHIND)
def test_a_stream_that_is_kept_alive(site, proxy):
    url = site(proxy, "usual").url("/kept/silent")
    status, _ = call(url, "--for", "2.2", verdict=r" ok Open for 2\.\d s(?!.* note )")
    assert status == 0


@pytest.mark.parts
@pytest.mark.parametrize("proxy", [NGINX, HAPROXY], ids=lambda x: x.name)
def test_an_idle_timeout(site, proxy):
    verdict = rf" problem Closed when idle for {ABOUT_LIMIT} s: an idle timeout\. Set"
    url = site(proxy, "limit").url("/plain/silent")
    status, _ = call(url, "--for", "10", verdict=verdict)
    assert status == 1


@pytest.mark.parts
def test_an_idle_timeout_that_looks_like_an_end(site):
    verdict = rf" note Ended when idle for {LIMIT} s, perhaps by an idle timeout\. Set"
    url = site(CADDY, "limit").url("/plain/silent")
    status, _ = call(url, "--for", "10", verdict=verdict)
    assert status == 0


@pytest.mark.parts
@pytest.mark.parametrize("proxy", [NGINX, HAPROXY, CADDY], ids=lambda x: x.name)
def test_an_idle_timeout_against_pings(site, proxy):
    url = site(proxy, "limit").url("/kept/silent")
    status, _ = call(url, "--for", "3.5", verdict=r" ok Open for 3\.\d s")
    assert status == 0


@pytest.mark.parts
@pytest.mark.parametrize("proxy", [NGINX, HAPROXY, CADDY], ids=lambda x: x.name)
def test_a_timeout_before_the_response_starts(site, proxy):
    verdict = rf" problem Status 504 after {LIMIT} s\. Set start_after"
    status, _ = call(site(proxy, "limit").url("/plain/mute"), "--for", "10", verdict=verdict)
    assert status == 1


@pytest.mark.parts
def test_a_total_timeout(site):
    verdict = rf" problem Closed after {TOTAL} s: a total timeout\."
    url = site(VARNISH, "total").url("/kept/silent")
    status, _ = call(url, "--for", "10", verdict=verdict)
    assert status == 1


@pytest.mark.parts
def test_headers_that_wait_for_the_first_byte(site):
    nginx = site(NGINX, "usual")
    verdict = r" ok Open for 4\.\d s.* note The headers arrived only with the first data\."
    status, _ = call(nginx.url("/bare/empty"), "--for", "4", verdict=verdict)
    assert status == 0
    verdict = r" ok Open for 2\.\d s(?!.* note )"
    status, _ = call(nginx.url("/kept/empty"), "--for", "2.2", verdict=verdict)
    assert status == 0


@pytest.mark.parts
@pytest.mark.parametrize("proxy", [CADDY, VARNISH], ids=lambda x: x.name)
def test_pings_that_a_compressor_holds_back(site, proxy):
    verdict = r" problem Buffered: \d pings arrived at once\. Keep anti_buffering=True"
    url = site(proxy, "compression").url("/kept/ending")
    status, text = call(url, "--for", "10", verdict=verdict)
    assert "ontent-Encoding: gzip" in text
    assert status == 1


@pytest.mark.parts
def test_pings_that_nginx_holds_back_to_compress_them(site):
    compressing = site(NGINX, "compression")
    verdict = r" problem Buffered: 2 pings arrived at once\."
    status, _ = call(compressing.url("/bare/ending"), "--for", "10", verdict=verdict)
    assert status == 1
    url = compressing.url("/kept/ending")
    status, text = call(url, "--for", "10", verdict=r" ok Open for 4\.\d s")
    assert "ontent-Encoding: gzip" in text
    assert status == 0
